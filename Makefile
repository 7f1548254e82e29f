.POSIX:

CARGO = cargo
PREFIX = /usr/local
DESTDIR =
TARGET_DIR = target
PEERS = ../shared/peers
CLIENTS = ../shared/clients
CORPUS = ../shared/corpus/dev.jsonl.gz
EVAL =
SECONDS = 60

build:
	$(CARGO) build --release --locked --target-dir $(TARGET_DIR)

demo:
	$(CARGO) build --release --locked --target-dir $(TARGET_DIR) --bin infershield --example practice --example demo
	$(TARGET_DIR)/release/examples/demo

test:
	$(CARGO) test --locked

test-peers:
	PEERS=$(PEERS) $(CARGO) test --locked --test peers

test-clients: build
	CLIENTS=$(CLIENTS) BINARY=$(TARGET_DIR)/release/infershield tests/clients/run

check: build
	$(CARGO) fmt --check
	$(CARGO) fmt --check --manifest-path fuzz/Cargo.toml
	.ci/size-test
	.ci/size
	.ci/ledger
	.ci/docs
	.ci/lint
	TARGET_DIR=$(TARGET_DIR) .ci/eval --check
	if [ -e $(CORPUS) ]; then CORPUS=$(CORPUS) benches/train.py --check; fi

eval: build
	@CORPUS=$(CORPUS) TARGET_DIR=$(TARGET_DIR) .ci/eval $(EVAL)

bench:
	$(CARGO) bench --locked --bench '*'

front-door:
	$(CARGO) bench --locked --bench front_door

fuzz:
	@.ci/fuzz $(SECONDS)

bench-detect:
	$(CARGO) bench --locked --bench detect

train:
	CORPUS=$(CORPUS) benches/train.py

bench-turns:
	$(CARGO) build --release --locked --target-dir $(TARGET_DIR) --bin infershield --example practice
	benches/turns.py $(TARGET_DIR)/release/infershield $(TARGET_DIR)/release/examples/practice

trust-path:
	@.ci/size --trust-path

vendor:
	$(CARGO) vendor --locked --versioned-dirs vendor >/dev/null

offline: vendor
	.ci/offline

install: $(TARGET_DIR)/release/infershield
	mkdir -p $(DESTDIR)$(PREFIX)/bin
	cp $(TARGET_DIR)/release/infershield $(DESTDIR)$(PREFIX)/bin/infershield
	chmod 755 $(DESTDIR)$(PREFIX)/bin/infershield

$(TARGET_DIR)/release/infershield:
	$(MAKE) build

uninstall:
	rm -f $(DESTDIR)$(PREFIX)/bin/infershield

clean:
	$(CARGO) clean
	rm -rf vendor

help:
	@echo 'make              the release binary, $(TARGET_DIR)/release/infershield'
	@echo 'make demo         the whole product against a practice provider on this machine'
	@echo 'make test         all tests'
	@echo 'make test-peers   tests against the real servers in PEERS=$(PEERS)'
	@echo 'make test-clients real clients, installed once (npm, pip), against the scripted model in CLIENTS=$(CLIENTS)'
	@echo 'make check        format, lints, size budget, dependency ledger, documents'
	@echo 'make eval         what the rules find, miss and mistake, by category (EVAL=--kinds: by kind and origin)'
	@echo 'make bench        all benches'
	@echo 'make front-door   the bench that shows why the front door is ours'
	@echo 'make bench-detect what scanning costs: speed by kind of text, the worst text, start, memory'
	@echo 'make bench-turns  what a conversation of 200 turns costs whose last one is new, against that one alone; and many values in a text'
	@echo 'make train        the weights of the learned scorer anew, to the byte'
	@echo 'make fuzz         inputs that break a property of tests/properties/, searched SECONDS=$(SECONDS) for each (nightly Rust, C++)'
	@echo 'make trust-path   the files that hold a token, a key or a prompt, in reading order'
	@echo 'make vendor       the sources of all dependencies, into vendor/'
	@echo 'make offline      build from vendor/ and test the invariants in a namespace without any network'
	@echo 'make install      copy the binary to DESTDIR=$(DESTDIR) PREFIX=$(PREFIX)'
	@echo 'make uninstall    remove that copy'
	@echo 'make clean        remove what was built and vendor/'

.PHONY: build demo test test-peers test-clients check eval bench front-door fuzz bench-detect bench-turns train trust-path vendor offline install uninstall clean help
