#!/usr/bin/env python3
"""What a long conversation costs: 200 turns of which only the last is new, against that turn alone; and what many values in one
text cost against a few. `make bench-turns`.

    benches/turns.py INFERSHIELD PRACTICE    the two release binaries

Each request goes once through the proxy and once straight to the practice provider; the difference is what the proxy adds.
"""
import http.client
import json
import os
import random
import subprocess
import sys
import tempfile
import time

# Turns seen before; words of a turn, about 4 kB; conversations to warm up with, then measured.
TURNS, WORDS, WARM, MEASURED = 200, 600, 60, 60
# Values of a text, and how many times as many the other text holds.
VALUES, TIMES = 4_000, 8
KEY = "sk-practice"
VOCABULARY = """the parser reads one line and returns a value; if (count > 0) { total += item.price * 2; } for each file in src/ we
build an index, then let result = map.get(key).unwrap_or_default(); def main(): return [x + 1 for x in rows] # see issue 42 "name":
"table", "width": 80 error: expected `;` at 12:7 while the test passes on Linux, please rename this function and run it again""".split()


def main():
    binary, practice = map(os.path.abspath, sys.argv[1:3])
    with tempfile.TemporaryDirectory() as folder:
        home = os.path.join(folder, "home")
        os.mkdir(home, 0o700)
        env = {"INFERSHIELD_HOME": home, "PATH": os.environ["PATH"], "HOME": folder}
        provider = subprocess.Popen([practice, "--listen", "127.0.0.1:0", "--key", KEY], stdout=subprocess.PIPE, text=True)
        origin = provider.stdout.readline().split()[-1]
        row = {"id": "practice", "login": "key", "api_base": origin + "/v1", "apis": ["chat"]}
        config = {"default_provider": "practice", "limits": {"pbkdf2_iterations": 100_000}, "providers": [row]}
        with open(os.path.join(home, "config.json"), "w") as file:
            json.dump(config, file)
        login = [binary, "auth", "login", "practice", "--with-key"]
        subprocess.run(login, input=KEY + "\n", text=True, env=env, check=True, stdout=subprocess.DEVNULL)
        made = subprocess.run([binary, "key", "create", "--name", "bench", "--json"], env=env, capture_output=True, check=True)
        serve = [binary, "serve", "--listen", "127.0.0.1:0"]
        proxy = subprocess.Popen(serve, env=env, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        address = proxy.stdout.readline().split("//")[1].strip()
        try:
            measure((address, json.loads(made.stdout)["key"]), (origin.split("//")[1], KEY))
        finally:
            proxy.kill()
            provider.kill()


def measure(proxy, direct):
    dice = random.Random(1)
    turn = lambda role: {"role": role, "content": " ".join(dice.choices(VOCABULARY, k=WORDS))}
    history = [turn("assistant" if index % 2 else "user") for index in range(TURNS)]
    added = {"alone": [], "whole": []}
    for round in range(WARM + MEASURED):
        for name, before in (("alone", []), ("whole", history)):
            body = json.dumps({"model": "m", "messages": [*before, turn("user")]})
            difference = seconds(proxy, body) - seconds(direct, body)
            if round >= WARM:
                added[name].append(difference)
    alone, whole = (sorted(times)[len(times) // 2] * 1e3 for times in (added["alone"], added["whole"]))
    print(f"{TURNS} turns and a new one, {len(body) / 1e3:.0f} kB: {whole:.2f} ms added; the new one alone: {alone:.2f} ms")
    print(f"ratio {whole / alone:.1f}")
    few, many = (min(redacted(proxy, dice, count) for _ in range(3)) for count in (VALUES, TIMES * VALUES))
    print(f"{VALUES} values redacted: {few * 1e3:.0f} ms; {TIMES} times as many take {many / few:.1f} times as long")


def redacted(proxy, dice, count):
    """Seconds for a text of new AWS key ids in a tag of HTML that holds URLs: what is named with each is noted."""
    keys = ("AKIA" + "".join(dice.choices("ABCDEFGHIJKLMNOPQRSTUVWXYZ234567", k=16)) for _ in range(count))
    content = "<a href='http://a.example' " + " //b/".join(keys)
    return seconds(proxy, json.dumps({"model": "m", "messages": [{"role": "user", "content": content}]}))


def seconds(to, body):
    address, key = to
    connection = http.client.HTTPConnection(address)
    start = time.perf_counter()
    headers = {"authorization": "Bearer " + key, "content-type": "application/json"}
    connection.request("POST", "/v1/chat/completions", body, headers)
    reply = connection.getresponse()
    reply.read()
    took = time.perf_counter() - start
    connection.close()
    if reply.status != 200:
        sys.exit(f"turns: status {reply.status}")
    return took


if __name__ == "__main__":
    main()
