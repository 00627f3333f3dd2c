// The official TypeScript SDK's client against one guard: lists, calls, and prints what it saw as one JSON line.
import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";

// ES modules know no NODE_PATH, so the packages are found from the folder that they were installed in.
const [folder, url, calls] = process.argv.slice(2);
const require = createRequire(folder + "/");
const load = (name) => import(pathToFileURL(require.resolve(name)));
const { Client } = await load("@modelcontextprotocol/sdk/client/index.js");
const { StreamableHTTPClientTransport } = await load("@modelcontextprotocol/sdk/client/streamableHttp.js");

const client = new Client({ name: "interlock-test", version: "1.0.0" });
await client.connect(new StreamableHTTPClientTransport(new URL(url)));
const { tools } = await client.listTools();
const results = [];
for (const call of JSON.parse(calls)) {
  const progress = [];
  const options = call.progress ? { onprogress: (step) => progress.push(step.progress) } : {};
  const result = await client.callTool({ name: call.name, arguments: call.arguments }, undefined, options);
  results.push({ ...result, progress });
}
await client.ping();
await client.close();
console.log(JSON.stringify({ tools: tools.map((tool) => tool.name), results }));
