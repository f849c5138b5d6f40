// @gradio/client on the page's endpoints: /chat whole and streamed, both forms of history, its errors.
// node gradio_use.mjs URL NAME:PASSWORD
import { Client } from "@gradio/client";

const [url, login] = process.argv.slice(2);
const app = await Client.connect(url, { auth: login.split(":") });
const check = (holds, what) => {
  if (!holds) throw new Error(what);
  console.log("ok:", what);
};
const ask = { message: "What is the capital of France?", temperature: 0, max_new_tokens: "8" };
const whole = (await app.predict("/chat", ask)).data[0];
check(String(whole).length > 3, "an answer, a number given as text");

let last = null, pieces = 0;
for await (const event of app.submit("/chat", ask)) {
  if (event.type === "data") { last = event.data[0]; pieces += 1; }
}
check(last === whole && pieces > 1, "the same answer, streamed");

const past = [{ role: "user", content: "Hi" }, { role: "assistant", content: "Hello" }];
const parts = past.map((turn) => ({ ...turn, content: [{ type: "text", text: turn.content }] }));
const [plain, other] = [await app.predict("/chat", { ...ask, history: past }), await app.predict("/chat", { ...ask, history: parts })];
check(plain.data[0] === other.data[0], "both forms of history");

let told = "";
try { await app.predict("/chat", { ...ask, temperature: "warm" }); } catch (error) { told = error.message; }
check(/temperature/.test(told) && !/[\u4e00-\u9fff]/.test(told), "a wrong kind is named, in English");
check((await app.predict("/models", {})).data[0].models.length > 0, "the list of models");
process.exit(0); // its open connections would keep it
