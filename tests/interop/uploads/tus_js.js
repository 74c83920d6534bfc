// Uploads a file with tus-js-client, and goes on by itself when the connection breaks. Prints what it saw.
"use strict";

const fs = require("node:fs");
const { parseArgs } = require("node:util");
const tus = require("tus-js-client");

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    server: { type: "string" },
    token: { type: "string" },
    meta: { type: "string", multiple: true, default: [] },
    chunk: { type: "string" },
    "with-creation": { type: "boolean", default: false },
  },
});

const seen = { statuses: [], offsets: [] };
const upload = new tus.Upload(fs.createReadStream(positionals[0]), {
  endpoint: `${values.server}/api/v1/uploads`,
  headers: { Authorization: `Bearer ${values.token}` },
  metadata: Object.fromEntries(values.meta.map((pair) => [pair.slice(0, pair.indexOf("=")), pair.slice(pair.indexOf("=") + 1)])),
  chunkSize: values.chunk === undefined ? Infinity : Number(values.chunk),
  uploadDataDuringCreation: values["with-creation"],
  retryDelays: [0, 500, 1000, 2000, 4000],
  onAfterResponse: (request, response) => {
    seen.statuses.push(`${request.getMethod()} ${response.getStatus()}`);
    if (request.getMethod() === "HEAD") seen.offsets.push(Number(response.getHeader("Upload-Offset")));
  },
  onError: (error) => {
    console.error(`error: ${error}`);
    process.exitCode = 1;
  },
  onSuccess: () => console.log(JSON.stringify({ ...seen, url: upload.url })),
});
upload.start();
