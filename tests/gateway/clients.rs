//! Programs that people use, through both ways in, with no more than the authority installed for them.
//! `docs/clients.md` lists them with their versions.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::lab::daemon::Daemon;
use crate::lab::{Lab, Place, must, text};

#[test]
fn wget_git_apt_and_pip_fetch_what_the_origin_has() {
    let lab = Lab::new();
    let _daemon = start(&lab);
    for (proxy, scheme) in WAYS {
        let base = format!("{scheme}://example.test/lab");
        wget(&lab, proxy, &base);
        git(&lab, proxy, &base);
        apt(&lab, proxy, &base);
        pip(&lab, proxy, &base);
    }
}

#[test]
fn python_clients_send_and_receive() {
    let lab = Lab::new();
    let _daemon = start(&lab);
    for (proxy, scheme) in WAYS {
        let origin = format!("{scheme}://odd.test");
        let mut argv = vec![clients_python(), script("fetch.py"), origin, text(&lab.ringtap_ca())];
        argv.extend(proxy.map(str::to_owned));
        let said = run(&lab, &argv);
        assert!(said.contains("aiohttp"), "{said}");
    }
}

#[test]
#[ignore = "needs node, npm and a JDK, which are large: run by hand after a change to the conversation"]
fn node_npm_and_java_send_and_receive() {
    let lab = Lab::new();
    let _daemon = start(&lab);
    let ca = text(&lab.ringtap_ca());
    let store = text(&lab.fresh_path("truststore"));
    must(&[
        "keytool",
        "-importcert",
        "-noprompt",
        "-alias",
        "ringtap",
        "-file",
        &ca,
        "-keystore",
        &store,
        "-storepass",
        "changeit",
    ]);
    for (proxy, scheme) in WAYS {
        let origin = format!("{scheme}://odd.test");
        let base = format!("{scheme}://example.test/lab");
        let to = lab.fresh_path("npm");
        fs::create_dir_all(&to).expect("a directory");
        let (home, registry) = (format!("HOME={}", to.display()), format!("--registry={base}/npm/"));
        let mut npm =
            vec!["env", &home, "npm", "pack", "demo", &registry, "--cafile", &ca, "--pack-destination"];
        let place = text(&to);
        npm.push(&place);
        let (plain, secure) = (
            format!("--proxy={}", proxy.unwrap_or("null")),
            format!("--https-proxy={}", proxy.unwrap_or("null")),
        );
        npm.extend([&*plain, &*secure]);
        run(&lab, &npm);
        assert!(to.join("demo-1.0.0.tgz").exists(), "{base}: npm brought nothing");
        if proxy.is_none() {
            let trust = format!("NODE_EXTRA_CA_CERTS={ca}");
            println!("{}", run(&lab, &["env", &trust, "node", &script("fetch.mjs"), &origin]));
        }
        let trust = format!("-Djavax.net.ssl.trustStore={store}");
        let (java, password) = (script("Fetch.java"), "-Djavax.net.ssl.trustStorePassword=changeit");
        let mut argv = vec!["java", &trust, password, &java, &origin];
        if proxy.is_some() {
            argv.extend(["10.78.1.1", "8081"]);
        }
        println!("{}", run(&lab, &argv));
    }
}

/// Both ways in: redirected without knowing, and told to use a proxy; plain and with TLS.
const WAYS: [(Option<&str>, &str); 4] = [
    (None, "http"),
    (None, "https"),
    (Some("http://10.78.1.1:8081"), "http"),
    (Some("http://10.78.1.1:8081"), "https"),
];

fn start(lab: &Lab) -> Daemon {
    let site = lab.dir().join("www");
    // the index of npm names the scheme it was asked by; both are the same files
    must(&["python3", &script("site.py"), &text(&site), "http://example.test/lab"]);
    let daemon = lab.start_ringtap(&["--mode", "transparent@8080", "--mode", "regular@8081", "-q"]);
    lab.redirect("redirect");
    daemon
}

fn wget(lab: &Lab, proxy: Option<&str>, base: &str) {
    let to = lab.fresh_path("wget");
    let ca = format!("--ca-certificate={}", lab.ringtap_ca().display());
    let (plain, secure) =
        (format!("http_proxy={}", proxy.unwrap_or("")), format!("https_proxy={}", proxy.unwrap_or("")));
    let url = format!("{base}/tree/noise");
    run(lab, &["wget", "-q", "--tries=1", &ca, "-e", &plain, "-e", &secure, "-O", &text(&to), &url]);
    same(&to, &lab.dir().join("www/tree/noise"));
}

fn git(lab: &Lab, proxy: Option<&str>, base: &str) {
    let to = lab.fresh_path("clone");
    // the environment has the last word on what git trusts
    let ca = format!("GIT_SSL_CAINFO={}", lab.ringtap_ca().display());
    let (via, url) = (format!("http.proxy={}", proxy.unwrap_or("")), format!("{base}/repo.git"));
    run(lab, &["env", &ca, "git", "-c", &via, "clone", "-q", &url, &text(&to)]);
    same(&to.join("noise"), &lab.dir().join("www/tree/noise"));
}

fn apt(lab: &Lab, proxy: Option<&str>, base: &str) {
    let dir = lab.fresh_path("apt");
    for part in ["lists/partial", "cache/archives/partial", "down", "etc"] {
        fs::create_dir_all(dir.join(part)).expect("apt's directories");
    }
    fs::write(dir.join("status"), "").expect("apt's status");
    fs::write(dir.join("list"), format!("deb [trusted=yes] {base}/apt ./\n")).expect("apt's sources");
    let settings = [
        ("Dir::Etc", dir.join("etc")),
        ("Dir::Etc::sourcelist", dir.join("list")),
        ("Dir::Etc::sourceparts", "/dev/null".into()),
        ("Dir::State::lists", dir.join("lists")),
        ("Dir::State::status", dir.join("status")),
        ("Dir::Cache", dir.join("cache")),
        ("APT::Sandbox::User", "root".into()),
        ("Acquire::Retries", "0".into()),
        ("Acquire::https::CaInfo", lab.ringtap_ca()),
        ("Acquire::http::Proxy", proxy.unwrap_or("false").into()),
        ("Acquire::https::Proxy", proxy.unwrap_or("false").into()),
    ];
    let mut argv = vec![
        "env".to_owned(),
        "-C".to_owned(),
        text(&dir.join("down")),
        "apt-get".to_owned(),
        "-q".to_owned(),
    ];
    for (name, value) in settings {
        argv.extend(["-o".to_owned(), format!("{name}={}", value.display())]);
    }
    run(lab, &[&argv[..], &["update".to_owned()]].concat());
    run(lab, &[&argv[..], &["download".to_owned(), "demo".to_owned()]].concat());
    same(&dir.join("down/demo_1.0_all.deb"), &lab.dir().join("www/apt/demo.deb"));
}

fn pip(lab: &Lab, proxy: Option<&str>, base: &str) {
    let to = lab.fresh_path("pip");
    let python = clients_python();
    let (index, ca, place) = (format!("{base}/simple/"), text(&lab.ringtap_ca()), text(&to));
    // what the environment says of bundles goes before the flag
    let bundle = format!("REQUESTS_CA_BUNDLE={ca}");
    let mut argv = vec![
        "env",
        &bundle,
        &*python,
        "-m",
        "pip",
        "--isolated",
        "--disable-pip-version-check",
        "--no-cache-dir",
    ];
    argv.extend(["download", "-q", "--no-deps", "--retries", "0", "--cert", &ca, "--index-url", &index]);
    argv.extend(["--trusted-host", if base.starts_with("https") { "nobody" } else { "example.test" }]);
    argv.extend(proxy.iter().flat_map(|proxy| ["--proxy", proxy]));
    argv.extend(["-d", &place, "demo"]);
    run(lab, &argv);
    let name = "demo-1.0-py3-none-any.whl";
    same(&to.join(name), &lab.dir().join("www/simple/demo").join(name));
}

fn run<S: AsRef<str>>(lab: &Lab, argv: &[S]) -> String {
    lab.run(Place::Client, argv, PATIENCE).succeeded().stdout
}

#[track_caller]
fn same(got: &Path, wanted: &Path) {
    let [got_bytes, wanted] = [got, wanted].map(|path| fs::read(path).unwrap_or_default());
    assert!(!wanted.is_empty() && got_bytes == wanted, "{} is not what the origin has", got.display());
}

fn script(name: &str) -> String {
    text(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/gateway/clients").join(name))
}

/// A Python with the clients in it.
fn clients_python() -> String {
    let made = Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/clients-venv")).output();
    let made = made.expect("run scripts/clients-venv");
    assert!(made.status.success(), "scripts/clients-venv: {}", String::from_utf8_lossy(&made.stderr));
    String::from_utf8_lossy(&made.stdout).trim().to_owned()
}

const PATIENCE: Duration = Duration::from_secs(60);
