"""The generation engine of a process: one session per layout, one KV budget, one runner per live expert."""

import threading

from coe import native
from coe.experts.activation_bits import ActivationBits
from coe.experts.bundle import Bundle
from coe.experts.kv_format import KvFormat
from coe.experts.kv_sharing import SharedKv
from coe.experts.layout_session import LayoutSession
from coe.experts.runner import Runner
from coe.experts.tokenizer import ExpertTokenizer


class Engine:
    """`threads` compute each step; `kv_bytes` bounds the KV cache of all experts, `max_batch` the sequences per expert.

    `kv_format` "f16" holds twice as many tokens as "f32" in the same memory, "i8" nearly four times as many; logits
    then differ in the fourth digit ("f16") or the third ("i8"). `activation_bits`: 8 is used only where the processor
    is faster with it; logits then differ in the second digit. `guesses`: see Runner.
    """

    def __init__(
        self,
        *,
        threads: int,
        kv_bytes: int,
        max_batch: int,
        kv_format: KvFormat = "f16",
        activation_bits: ActivationBits = 16,
        guesses: int = 0,
    ) -> None:
        native.set_threads(threads)
        self._guesses = guesses
        self._max_batch = max_batch
        self._kv_format: KvFormat = kv_format
        self._activation_bits: ActivationBits = activation_bits
        self._kv = SharedKv(kv_bytes)
        self._sessions: dict[str, LayoutSession] = {}
        self._lock = threading.Lock()

    def runner(self, bundle: Bundle, *, past: str = "", guesses: int | None = None) -> Runner:
        """A runner without sequences. Fast, except for the first expert of a layout, whose graph must be built.

        Runners with the same `past` share a prefix cache; by default those with the same weights do. `guesses`
        overrides the engine's.
        """
        session = self._session(bundle)
        kv = self._kv.expert(session, past or bundle.manifest.weights_digest)
        guesses = self._guesses if guesses is None else guesses
        return Runner(session, ExpertTokenizer.of(bundle), kv, self._max_batch, guesses)

    def warm_up(self, bundle: Bundle) -> None:
        """Builds the graph of the bundle's layout, and allocates all of its KV cache up front.

        Otherwise memory is allocated at first use, which delays steps. With several layouts, each one allocates the
        whole budget.
        """
        self._session(bundle).kv.fill(0)

    @property
    def sessions_built(self) -> int:
        """The number of layouts seen so far. Switching between experts of one layout does not change it."""
        return len(self._sessions)

    def _session(self, bundle: Bundle) -> LayoutSession:
        with self._lock:
            session = self._sessions.get(bundle.layout_key)
            if session is None:
                session = LayoutSession(bundle, self._kv.budget, self._kv_format, activation_bits=self._activation_bits)
                self._sessions[bundle.layout_key] = session
                self._kv.join(session)
            return session
