"""Keeps a sentence that comes again and again from filling the log: said once, counted, and the count said. Pure."""

WINDOW = 60.0
"""Seconds in which the same sentence is said once."""

BURST = 3
"""So many times it is said before it is only counted: two peers may well do the same at once."""

MAX_SENTENCES = 500
"""Sentences remembered; the oldest go."""

Sentence = tuple[str, int, str]
"""Logger, level, message."""


class Repeats:
    """Of one log. Times are seconds of one clock."""

    def __init__(self) -> None:
        self._seen: dict[Sentence, tuple[float, int]] = {}

    def passes(self, sentence: Sentence, now: float) -> bool:
        """Say whether a sentence is to be written; one that is not is counted. Call `due` before."""
        since, count = self._seen.get(sentence, (now, 0))
        if sentence not in self._seen and len(self._seen) >= MAX_SENTENCES:
            del self._seen[next(iter(self._seen))]
        self._seen[sentence] = since, count + 1
        return count < BURST

    def due(self, now: float) -> list[tuple[Sentence, int]]:
        """Give the sentences whose window is over, with how often they were held back; those never are left out."""
        over = [each for each, (since, _) in self._seen.items() if now >= since + WINDOW or now < since]
        counted = [(each, self._seen.pop(each)[1] - BURST) for each in over]
        return [(each, count) for each, count in counted if count > 0]
