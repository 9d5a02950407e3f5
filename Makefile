# The two commands of the README, and the developer's.
#   sudo make demo [KEEP=1] [DEMO_DOCKER=1]   three virtual hosts on this machine, one network
#   sudo make demo-stop                       ends a demo that was kept
#   sudo make test [TESTS=PATH]               the whole test suite, as CI runs it
#   make check                                ruff, mypy --strict, formatting
#   PLAIT_WEAVER=... sudo -E make vm-test [ONLY="SCENARIO ..."]   real fast datapaths in an emulated machine (docs/vm-test.md)
#   sudo make bench [ONLY=...] [QUICK=1] [ROUNDS=n] [CC=cubic,bbr] [WIRES=super,wire]   plait and its peers, measured

TESTS ?=
PY = .venv/bin/python
# CC is a variable of make's own, which says `cc` if nobody set it.
CC_GIVEN = $(if $(filter default,$(origin CC)),,$(CC))

.PHONY: demo demo-stop test vm-test check bench clean

demo:
	@scripts/setup $(if $(filter-out 0,$(DEMO_DOCKER)),demo-docker,demo)
	@KEEP=$(KEEP) DEMO_DOCKER=$(DEMO_DOCKER) $(PY) -m plait.testing.demo

demo-stop:
	@$(PY) -m plait.testing.demo stop

test:
	@scripts/setup test
	@scripts/test $(TESTS)

vm-test:
	@scripts/setup vm-test
	@cd tests && ../$(PY) -m vm $(ONLY)

check:
	@scripts/setup check
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy

bench:
	@scripts/setup bench
	ONLY=$(ONLY) QUICK=$(QUICK) ROUNDS=$(ROUNDS) CC=$(CC_GIVEN) WIRES=$(WIRES) $(PY) -m bench

clean:
	rm -rf .venv build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis
