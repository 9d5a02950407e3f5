"""Builds the compiled engine and says in one sentence what became of it; never fails, since Python does the same."""

from plait.overlay.sleeve.native.build import build


def main() -> None:
    """Build."""
    print(build())


if __name__ == "__main__":
    main()
