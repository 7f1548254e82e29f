// The OpenAI SDK for Node doing a small job.
import OpenAI from 'openai';
import fs from 'node:fs';

const client = new OpenAI();
const { MODEL: model, PROMPT: prompt, SCENARIO: scenario } = process.env;
const parameters = { type: 'object', properties: { path: { type: 'string' } }, required: ['path'] };
const tools = [{ type: 'function', function: { name: 'read_file', description: 'read a file', parameters } }];
const turn = async (messages, more = {}) =>
  (await client.chat.completions.stream({ model, messages, stream_options: { include_usage: true }, ...more }).finalMessage());

try {
  const messages = [{ role: 'user', content: prompt }];
  if (scenario === 'tool') {
    const first = await turn(messages, { tools });
    const call = first.tool_calls[0];
    messages.push(first, { role: 'tool', tool_call_id: call.id,
      content: fs.readFileSync(JSON.parse(call.function.arguments).path, 'utf8') });
    console.log((await turn(messages, { tools })).content);
  } else {
    const answer = (await turn(messages)).content;
    if (scenario === 'plain') {
      const whole = await client.responses.stream({ model, input: prompt }).finalResponse();
      if (whole.output_text !== answer) throw new Error(`${whole.output_text} is not ${answer}`);
      await client.embeddings.create({ model: 'text-embedding-mock', input: ['one', 'two'] });
    }
    console.log(answer);
  }
} catch (error) {
  console.log(`${error.constructor.name}: ${error.message}`);
  process.exit(1);
}
