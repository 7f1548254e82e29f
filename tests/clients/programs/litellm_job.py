"""The LiteLLM SDK doing a small job, once for each of two APIs."""
import json, os, pathlib, sys
import litellm

origin, key, prompt, scenario = (os.environ[name] for name in ("ORIGIN", "KEY", "PROMPT", "SCENARIO"))
READ = {"type": "function", "function": {"name": "read_file", "description": "read a file", "parameters": {
    "type": "object", "properties": {"path": {"type": "string"}}, "required": ["path"]}}}


def job(model, base):
    def ask(messages, **more):
        chunks = list(litellm.completion(model=model, api_base=base, api_key=key, messages=messages, stream=True,
                                         stream_options={"include_usage": True}, max_tokens=500, **more))
        return litellm.stream_chunk_builder(chunks).choices[0].message

    messages = [{"role": "user", "content": prompt}]
    if scenario != "tool":
        return ask(messages).content
    first = ask(messages, tools=[READ])
    call = first.tool_calls[0]
    messages += [first.model_dump(exclude_none=True), {"role": "tool", "tool_call_id": call.id,
                 "content": pathlib.Path(json.loads(call.function.arguments)["path"]).read_text()}]
    return ask(messages, tools=[READ]).content


try:
    answer = job("openai/gpt-mock", origin + "/v1")
    if scenario != "probe":
        assert answer == job("anthropic/claude-mock", origin)
    print(answer)
except litellm.exceptions.APIError as error:
    sys.exit("%s: %s" % (type(error).__name__, error))
