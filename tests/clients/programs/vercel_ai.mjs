// The Vercel AI SDK doing a small job, once for each API.
import { streamText, tool, jsonSchema, stepCountIs } from 'ai';
import { createOpenAI } from '@ai-sdk/openai';
import { createAnthropic } from '@ai-sdk/anthropic';
import fs from 'node:fs';

const { ORIGIN: origin, KEY: apiKey, PROMPT: prompt, SCENARIO: scenario } = process.env;
const settings = { baseURL: `${origin}/v1`, apiKey };
const openai = createOpenAI(settings);
const inputSchema = jsonSchema({ type: 'object', properties: { path: { type: 'string' } }, required: ['path'] });
const tools = { read_file: tool({ description: 'read a file', inputSchema, execute: ({ path }) => fs.readFileSync(path, 'utf8') }) };
const models = [openai.responses('gpt-mock'), openai.chat('gpt-mock'), createAnthropic(settings)('claude-mock')];
let answer;
for (const model of scenario === 'probe' ? models.slice(0, 1) : models) {
  let failed;
  const stream = streamText({ model, prompt, stopWhen: stepCountIs(4), onError: ({ error }) => { failed = error; },
    ...(scenario === 'tool' ? { tools } : {}) });
  for await (const _ of stream.textStream);
  if (failed) {
    console.log(`${failed.name}: ${failed.message}`);
    process.exit(1);
  }
  const text = await stream.text;
  if (answer && text !== answer) throw new Error(`${text} is not ${answer}`);
  answer = text;
}
console.log(answer);
