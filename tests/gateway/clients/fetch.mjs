// Node's fetch against the odd origin: node fetch.mjs ORIGIN (NODE_EXTRA_CA_CERTS names the authority)
import { createHash } from "node:crypto";

const origin = process.argv[2];
const sum = (bytes) => createHash("sha256").update(bytes).digest("hex");
const body = Buffer.alloc(1_000_000, "node");

for (let turn = 0; turn < 2; turn++) {
  const got = await fetch(`${origin}/chunked?sizes=1,2,3,70000`);
  const bytes = Buffer.from(await got.arrayBuffer());
  if (got.status !== 200 || sum(bytes) !== got.headers.get("x-sha256")) throw new Error(`GET: ${got.status}`);
  const stream = new Blob([body]).stream();
  const sent = await fetch(`${origin}/echo`, { method: "POST", body: turn ? body : stream, duplex: "half" });
  const said = await sent.json();
  if (said.sha256 !== sum(body)) throw new Error(`POST: ${JSON.stringify(said)}`);
}
console.log(`node ${process.version}, undici ${process.versions.undici}`);
