"""The Anthropic SDK for Python doing a small job."""
import os, pathlib, sys
import anthropic

client = anthropic.Anthropic()
model, prompt, scenario = (os.environ[name] for name in ("MODEL", "PROMPT", "SCENARIO"))
READ = {"name": "read_file", "description": "read a file",
        "input_schema": {"type": "object", "properties": {"path": {"type": "string"}}, "required": ["path"]}}


def turn(messages, **more):
    with client.messages.stream(model=model, max_tokens=500, messages=messages, **more) as stream:
        return stream.get_final_message()


def text(message):
    return "".join(block.text for block in message.content if block.type == "text")


messages = [{"role": "user", "content": prompt}]
try:
    if scenario == "tool":
        first = turn(messages, tools=[READ])
        call = next(block for block in first.content if block.type == "tool_use")
        result = {"type": "tool_result", "tool_use_id": call.id, "content": pathlib.Path(call.input["path"]).read_text()}
        messages += [{"role": "assistant", "content": first.content}, {"role": "user", "content": [result]}]
        print(text(turn(messages, tools=[READ])))
    else:
        streamed = text(turn(messages))
        if scenario == "plain":
            assert streamed == text(client.messages.create(model=model, max_tokens=500, messages=messages))
            assert client.messages.count_tokens(model=model, messages=messages).input_tokens > 0
            assert model in [known.id for known in client.models.list()]
        print(streamed)
except anthropic.APIError as error:
    sys.exit("%s: %s" % (type(error).__name__, error))
