"""The OpenAI Agents SDK doing a small job."""
import asyncio, os, pathlib, sys
import agents, openai


@agents.function_tool
def read_file(path: str) -> str:
    """read a file"""
    return pathlib.Path(path).read_text()


async def job():
    agent = agents.Agent(name="reader", instructions="Answer briefly.", model=os.environ["MODEL"], tools=[read_file])
    run = agents.Runner.run_streamed(agent, os.environ["PROMPT"])
    async for _ in run.stream_events():
        pass
    print(run.final_output)

try:
    asyncio.run(job())
except openai.APIError as error:
    sys.exit("%s: %s" % (type(error).__name__, error))
