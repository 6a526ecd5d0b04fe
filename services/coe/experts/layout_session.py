"""What experts of one layout share: the ONNX Runtime session of their graph, and the KV cache."""

import mmap

import numpy as np
import onnxruntime as ort

from coe.experts import activation_bits as bits
from coe.experts.activation_bits import ActivationBits
from coe.experts.bundle import Bundle
from coe.experts.graph import KV_BLOCK_TOKENS, build_graph
from coe.experts.kv_blocks import BlockPool, KvBudget
from coe.experts.kv_format import KvFormat, bytes_per_token, row_elements
from coe.experts.step_plan import Int64
from coe.experts.step_result import StepResult
from coe.native import instruction_set, ops_library_path
from coe.platform.errors import InternalError, LeaseLost

STALE_LEASE = "stale lease"
_KV_TYPES: dict[KvFormat, type[np.number]] = {"f32": np.float32, "f16": np.float16, "i8": np.int8}


class LayoutSession:
    """Built once, for the first expert of its layout. Safe to run from several threads."""

    def __init__(
        self,
        bundle: Bundle,
        budget: KvBudget,
        kv_format: KvFormat = "f32",
        *,
        activation_bits: ActivationBits = 16,
        fused: bool = True,
    ) -> None:
        config = bundle.manifest.config
        self.config = config
        # Whether steps are batch-invariant without asking for it: a token's bits don't depend on the rest of its step.
        # Only AMX's bfloat16 tiles do (ADR 9); attention never does (OPS.md).
        self.batch_invariant = instruction_set() != "amx"
        used = bits.used(activation_bits)
        graph = build_graph(config, bundle.manifest.tensors, kv_format, activation_bits=used, fused=fused)
        self._session = _session(graph.SerializeToString())
        kind = np.dtype(_KV_TYPES[kv_format])
        block_bytes = bytes_per_token(config, kv_format) * KV_BLOCK_TOKENS
        blocks = max(1, budget.limit // block_bytes)
        self.pool = BlockPool(budget, block_bytes, KV_BLOCK_TOKENS, blocks)
        self._memory = mmap.mmap(-1, blocks * block_bytes, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        # A step reads short runs all over the cache: small pages would cause many TLB misses.
        self._memory.madvise(mmap.MADV_HUGEPAGE)
        shape = (config.layers, blocks, 2, config.kv_heads, KV_BLOCK_TOKENS, row_elements(config, kv_format))
        self.kv = np.frombuffer(self._memory, kind).reshape(shape)
        self._kv_value = ort.OrtValue.ortvalue_from_numpy(self.kv)

    def run(self, inputs: dict[str, Int64]) -> StepResult:
        """Runs one step of the graph. Raises LeaseLost when the lease in `expert_slot` is stale."""
        feeds = {name: ort.OrtValue.ortvalue_from_numpy(array) for name, array in inputs.items()}
        feeds["kv"] = self._kv_value
        greedy = not len(inputs["logit_rows"])
        try:
            outputs = self._session.run_with_ort_values(["likeliest", "peaks"] if greedy else ["logits"], feeds)
        except Exception as error:  # ONNX Runtime has one exception class per error code, without a common base
            if STALE_LEASE in str(error):
                raise LeaseLost("the expert's slot was reassigned while it was generating") from error
            raise InternalError(f"the graph failed: {error}") from error
        # Indexed, because iterating over these values ends in a C++ exception.
        if greedy:
            return StepResult(outputs[0].numpy(), outputs[1].numpy())
        return StepResult.of_logits(outputs[0].numpy())

    def forget_kv(self) -> None:
        """Returns the memory of an idle cache to the operating system."""
        self.pool.forget()
        self._memory.madvise(mmap.MADV_DONTNEED)


def _session(model: bytes) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.register_custom_ops_library(str(ops_library_path()))
    # The ops have their own threads (native.set_threads); ONNX Runtime's would only compete with them.
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    # Everything worth fusing is already fused in the ops: optimisation would only slow down session creation.
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    return ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
