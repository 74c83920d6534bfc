// Walks a repository with tuf-js from the root that its cache has, downloads one target if it is named, and prints what
// it saw. The first run needs --root; the cache is OUT/metadata, and a second run with the same --out continues from it.
"use strict";

const crypto = require("node:crypto");
const fs = require("node:fs");
const path = require("node:path");
const { parseArgs } = require("node:util");
const { Updater } = require("tuf-js");

const ROLES = ["root", "timestamp", "snapshot", "targets"];

async function walk({ "repo-url": repoUrl, root, target, out }) {
  const metadataDir = path.join(out, "metadata");
  fs.mkdirSync(metadataDir, { recursive: true });
  const cachedRoot = path.join(metadataDir, "root.json");
  if (!fs.existsSync(cachedRoot)) fs.copyFileSync(root, cachedRoot);
  const updater = new Updater({
    metadataBaseUrl: repoUrl,
    metadataDir,
    targetBaseUrl: `${repoUrl}/targets`,
    targetDir: out,
    config: { prefixTargetsWithHash: true, fetchTimeout: 30000 },
  });
  await updater.refresh();
  const seen = { versions: {} };
  for (const role of ROLES) seen.versions[role] = versionOf(path.join(metadataDir, `${role}.json`));
  if (target === undefined) return seen;
  const info = await updater.getTargetInfo(target);
  if (info === undefined) throw new Error(`no target ${target}`);
  const file = await updater.downloadTarget(info);
  const bytes = fs.readFileSync(file);
  const sha256 = crypto.createHash("sha256").update(bytes).digest("hex");
  return { ...seen, path: file, length: bytes.length, sha256, signed_length: info.length, signed_hashes: info.hashes };
}

function versionOf(file) {
  return JSON.parse(fs.readFileSync(file, "utf8")).signed.version;
}

const { values } = parseArgs({
  options: { "repo-url": { type: "string" }, root: { type: "string" }, target: { type: "string" }, out: { type: "string" } },
});
walk(values).then(
  (seen) => console.log(JSON.stringify(seen)),
  (error) => {
    console.error(`error: tuf-js does not walk the repository: ${error.name}: ${error.message}`);
    process.exitCode = 1;
  },
);
