"""langchain-openai doing a small job."""
import functools, operator, os, pathlib, sys
import openai
from langchain_core.messages import HumanMessage, ToolMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI, OpenAIEmbeddings

model, prompt, scenario = (os.environ[name] for name in ("MODEL", "PROMPT", "SCENARIO"))


@tool
def read_file(path: str) -> str:
    """read a file"""
    return pathlib.Path(path).read_text()


def ask(chat, messages):
    return functools.reduce(operator.add, chat.stream(messages))


def job(chat):
    messages = [HumanMessage(prompt)]
    if scenario != "tool":
        return ask(chat, messages).text
    chat = chat.bind_tools([read_file])
    first = ask(chat, messages)
    call = first.tool_calls[0]
    result = ToolMessage(pathlib.Path(call["args"]["path"]).read_text(), tool_call_id=call["id"])
    return ask(chat, [*messages, first, result]).text


try:
    answer = str(job(ChatOpenAI(model=model, stream_usage=True)))
    if scenario != "probe":
        assert answer == str(job(ChatOpenAI(model=model, use_responses_api=True)))
        OpenAIEmbeddings(model="text-embedding-mock", check_embedding_ctx_length=False).embed_documents(["one"])
    print(answer)
except openai.APIError as error:
    sys.exit("%s: %s" % (type(error).__name__, error))
