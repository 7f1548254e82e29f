#!/usr/bin/env python3
"""Makes the weights of the learned scorer, src/detect/learned.txt, to the byte: integers all the way, and a seed. `make train`.

    benches/train.py [--check]     writes the file, or fails when it would be another

A linear model over hashed beginnings of words and pairs of them; of a text only its worst window counts. It learns two
things, each for itself: what users type to talk a model out of its rules, and orders to a model in what a tool or a document says; from
the corpus beside the project (`CORPUS` names it) and fixtures/detect/learned.jsonl. The scorer itself is src/detect/learned.rs, which cuts, hashes and adds in the same way.
"""

import gzip
import json
import math
import os
import re
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
CORPUS = os.environ.get("CORPUS") or os.path.join(ROOT, "..", "shared", "corpus", "dev.jsonl.gz")
OWN = os.path.join(ROOT, "fixtures", "detect", "learned.jsonl")
WEIGHTS = os.path.join(ROOT, "src", "detect", "learned.txt")

# As in learned.rs: bits of a bucket, words of a window of each lesson, bytes of a word that count, the sign of weight 0.
BITS, ATTEMPT, ORDER, STEM, ZERO = 14, 100, 24, 5, ord("O")
# What stands for 1; rounds over all texts; the length of the first steps; how wrong a text may be and still be left alone.
ONE, ROUNDS, RATE, LEAST_WRONG = 1 << 16, 10, (1 << 16) // 10, (1 << 16) // 50
# Heaviest weights either way; all others are scaled by the one that so many thousandths lie below.
LEAST, MOST, SCALED_BY = -46, 47, 995
WORD = re.compile(rb"[a-z0-9\x80-\xff]+")
WORDS_SEEN = {}


def main():
    texts = [*records(CORPUS), *records(OWN)]
    made = weights(texts, ATTEMPT, is_attempt, lambda record: True)
    made += weights(texts, ORDER, is_order, lambda record: record["source"] != "user")
    if "--check" in sys.argv[1:]:
        with open(WEIGHTS, encoding="ascii") as file:
            return 0 if file.read() == made else f"{WEIGHTS} is not what the texts make; type `make train`"
    with open(WEIGHTS, "w", encoding="ascii") as file:
        file.write(made)
    print(f"{len(texts)} texts, {len(made)} bytes in {WEIGHTS}")


def records(path):
    with (gzip.open if path.endswith(".gz") else open)(path, "rt", encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def is_attempt(record):
    return record["label"] == "jailbreak" or (record["label"] == "injection" and record["source"] == "user")


def is_order(record):
    return record["label"] == "injection" and record["source"] in ("tool", "document")


def weights(texts, window, is_meant, is_beside):
    """One sign for each bucket, from the texts that are meant and the benign ones beside them."""
    docs = [(1, buckets(record["text"], window)) for record in texts if is_meant(record)]
    docs += [(-1, buckets(record["text"], window)) for record in texts if record["label"] == "benign" and is_beside(record)]
    sums = train(docs)
    scale = sorted(map(abs, sums))[len(sums) * SCALED_BY // 1000]
    whole = [max(LEAST, min(MOST, (2 * total * MOST + scale) // (2 * scale))) for total in sums]
    return "".join(chr(ZERO + weight) for weight in whole)


def buckets(text, window):
    """Of each window, which begins in the middle of the one before, the buckets of its words, and of each word with the one before it."""
    found, before = [], 0
    for word in WORD.findall(text.encode().lower()):
        hashed = fnv(word)
        found.append((bucket(hashed), bucket((before * 0x85EBCA6B) ^ hashed)))
        before = hashed
    step = window // 2
    starts = range(0, len(found) - step, step) if len(found) > window else [0]
    return [sorted({one for pair in found[start : start + window] for one in pair}) for start in starts]


def fnv(word):
    """FNV-1a of 32 bits, of how a word begins."""
    if word not in WORDS_SEEN:
        hashed = 0x811C9DC5
        for byte in word[:STEM]:
            hashed = ((hashed ^ byte) * 0x01000193) & 0xFFFFFFFF
        WORDS_SEEN[word] = hashed
    return WORDS_SEEN[word]


def bucket(number):
    return (((number & 0xFFFFFFFF) * 0x9E3779B1) & 0xFFFFFFFF) >> (32 - BITS)


def train(docs):
    """Steps against the slope of a loss that does not grow faster than the error, each bucket's the smaller the more it has learned (AdaGrad)."""
    weights, learned = [0] * (1 << BITS), [ONE // 100] * (1 << BITS)
    state = 1
    for _ in range(ROUNDS):
        for last in range(len(docs) - 1, 0, -1):
            state = (state * 6364136223846793005 + 1442695040888963407) & 0xFFFFFFFFFFFFFFFF
            other = (state >> 33) % (last + 1)
            docs[last], docs[other] = docs[other], docs[last]
        for side, windows in docs:
            score, worst = max((sum(weights[one] for one in window), window) for window in windows)
            right = score * side - ONE
            wrong = (ONE - right * ONE // (ONE + abs(right))) // 2
            if wrong > LEAST_WRONG:
                for one in worst:
                    learned[one] += wrong * wrong // ONE
                    weights[one] += side * (RATE * wrong // math.isqrt(learned[one] * ONE))
    return weights


if __name__ == "__main__":
    sys.exit(main())
