"""How far a run is, in a line."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Progress:
    """Of a run of so many cells, begun at a time in seconds."""

    total: int
    began: float

    def line(self, family, cells, now):
        """How far it is. The cells to come are taken to be like those before them."""
        seconds = now - self.began
        text = f"{family:13} {cells:4} of {self.total} cells, {100 * cells // self.total:3}%"
        if not 0 < cells < self.total:
            return f"{text}, {_minutes(seconds)} in all"
        return f"{text}, about {_minutes(seconds * (self.total - cells) / cells)} left"


def _minutes(seconds):
    return f"{seconds:.0f} s" if seconds < 60 else f"{seconds / 60:.0f} min"
