# Two doors: `make` shows Vigil at work, `make test` shows that it is right.
.PHONY: setup demo test test-all lint bench clean

setup:
	@deploy/setup.sh

demo: setup
	@.venv/bin/vigil demo

lint: setup
	@.venv/bin/ruff format --check --quiet .
	@.venv/bin/ruff check --quiet .
	@.venv/bin/mypy --no-error-summary

test: lint
	@.venv/bin/pytest -q -n 2 --dist loadgroup

test-all: lint
	@.venv/bin/pytest -q -n 2 --dist loadgroup -m ""

bench: setup
	@.venv/bin/python deploy/figures.py engine alerts recordings senses theatre soak

clean:
	rm -rf .venv .ruff_cache .mypy_cache .pytest_cache .hypothesis
