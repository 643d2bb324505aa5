"""A stand-in for a replica, for decisions that need none."""

from dataclasses import dataclass, field


@dataclass
class FakeView:
    """What a replica shows, set by hand."""

    values: dict = field(default_factory=dict)
    withheld: set = field(default_factory=set)
    age: float = 0.0
    callbacks: list = field(default_factory=list)

    def get(self, key):
        return self.values.get(key)

    def is_withheld(self, key) -> bool:
        return key in self.withheld

    def freshness_seconds(self) -> float:
        return self.age

    def subscribe(self, callback) -> None:
        self.callbacks.append(callback)

    def put(self, key, value) -> None:
        old = self.values.pop(key, None)
        if value is not None:
            self.values[key] = value
        for callback in self.callbacks:
            callback(key, old, value)
