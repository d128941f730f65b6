"""A token bucket that may go into debt: pure, time is passed in."""

from __future__ import annotations


class TokenBucket:
    """``rate`` tokens a second, at most ``burst`` kept.

    One that is not empty gives any amount and owes the rest, so a message that is larger
    than the burst passes too and the mean rate still holds.
    """

    def __init__(self, *, rate: float, burst: float, now_s: float) -> None:
        self.rate = rate
        self.burst = burst
        self._tokens = burst
        self._as_of_s = now_s

    def _refill(self, now_s: float) -> None:
        self._tokens = min(self.burst, self._tokens + (now_s - self._as_of_s) * self.rate)
        self._as_of_s = now_s

    def change(self, *, rate: float, burst: float, now_s: float) -> None:
        """Another rate from now on; debt stays, and what is kept is at most the new burst."""
        self._refill(now_s)
        self.rate, self.burst = rate, burst
        self._tokens = min(self._tokens, burst)

    def take(self, now_s: float, amount: float) -> None:
        """Take ``amount``; the caller asked ``wait_s`` before."""
        self._refill(now_s)
        self._tokens -= amount

    def whole(self, now_s: float) -> int:
        """How many messages of one token each it gives now."""
        self._refill(now_s)
        return max(0, int(self._tokens))

    def wait_s(self, now_s: float, reserve: float = 0.0) -> float:
        """Seconds until more than ``reserve`` tokens are there; 0 when they are."""
        self._refill(now_s)
        missing = reserve - self._tokens
        # a whole token, or messages of one token each would run the bucket into debt
        need = missing + min(1.0, self.burst - reserve)
        return max(0.0, need / self.rate)
