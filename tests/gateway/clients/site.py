#!/usr/bin/env python3
"""Makes a site for package managers and git in DIR: a repository, a Debian archive, a Python and an npm index.

    site.py DIR BASE-URL
"""
import hashlib, io, json, os, subprocess, sys, tarfile, zipfile

NOISE = b"".join(hashlib.sha256(str(i).encode()).digest() for i in range(40_000))


def run(*argv, **more):
    env = dict(os.environ, GIT_AUTHOR_NAME="a", GIT_AUTHOR_EMAIL="a@b", GIT_COMMITTER_NAME="a", GIT_COMMITTER_EMAIL="a@b",
               GIT_CONFIG_GLOBAL="/dev/null")
    return subprocess.run(argv, check=True, env=env, stdout=subprocess.PIPE, **more).stdout


def put(path, data):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "wb") as file:
        file.write(data if isinstance(data, bytes) else data.encode())


def repository(root):
    tree = f"{root}/tree"
    put(f"{tree}/noise", NOISE)
    run("git", "init", "-q", "-b", "main", tree)
    run("git", "-C", tree, "add", ".")
    run("git", "-C", tree, "commit", "-qm", "noise")
    run("git", "clone", "-q", "--bare", tree, f"{root}/repo.git")
    run("git", "-C", f"{root}/repo.git", "update-server-info")


def archive(root):
    package = f"{root}/package"
    put(f"{package}/DEBIAN/control",
        "Package: demo\nVersion: 1.0\nArchitecture: all\nMaintainer: a <a@b>\nDescription: a demo\n")
    put(f"{package}/usr/share/demo/noise", NOISE)
    os.makedirs(f"{root}/apt")
    run("dpkg-deb", "--build", "-Znone", package, f"{root}/apt/demo.deb")
    with open(f"{root}/apt/demo.deb", "rb") as file:
        deb = file.read()
    put(f"{root}/apt/Packages",
        "Package: demo\nVersion: 1.0\nArchitecture: all\nMaintainer: a <a@b>\nDescription: a demo\n"
        f"Filename: ./demo.deb\nSize: {len(deb)}\nSHA256: {hashlib.sha256(deb).hexdigest()}\n\n")


def wheel(root):
    name = "demo-1.0-py3-none-any.whl"
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as file:
        file.writestr("demo/noise", NOISE)
        file.writestr("demo-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: demo\nVersion: 1.0\n")
        file.writestr("demo-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nGenerator: a\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        file.writestr("demo-1.0.dist-info/RECORD", "")
    put(f"{root}/simple/demo/{name}", data.getvalue())
    put(f"{root}/simple/demo/index.html", f'<!DOCTYPE html><a href="{name}">{name}</a>')


def npm(root, base):
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w:gz") as file:
        for name, content in (("package.json", b'{"name":"demo","version":"1.0.0"}'), ("noise", NOISE)):
            entry = tarfile.TarInfo(f"package/{name}")
            entry.size = len(content)
            file.addfile(entry, io.BytesIO(content))
    put(f"{root}/npm/demo-1.0.0.tgz", data.getvalue())
    put(f"{root}/npm/demo", json.dumps({
        "name": "demo", "dist-tags": {"latest": "1.0.0"},
        "versions": {"1.0.0": {"name": "demo", "version": "1.0.0", "dist": {
            "tarball": f"{base}/npm/demo-1.0.0.tgz", "shasum": hashlib.sha1(data.getvalue()).hexdigest()}}}}))


root, base = sys.argv[1:]
repository(root)
archive(root)
wheel(root)
npm(root, base)
