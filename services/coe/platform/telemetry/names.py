"""Attribute names, kept in one place because the semantic conventions for messaging and RPC are still changing.

Sources: OpenTelemetry semantic conventions for messaging (Kafka), RPC (gRPC), HTTP and generative AI.
"""

MESSAGING_SYSTEM = "messaging.system"
MESSAGING_OPERATION = "messaging.operation.name"
MESSAGING_OPERATION_TYPE = "messaging.operation.type"
MESSAGING_DESTINATION = "messaging.destination.name"
MESSAGING_PARTITION = "messaging.destination.partition.id"
MESSAGING_GROUP = "messaging.consumer.group.name"
MESSAGING_KEY = "messaging.kafka.message.key"
MESSAGING_OFFSET = "messaging.kafka.offset"

RPC_SYSTEM = "rpc.system.name"
RPC_METHOD = "rpc.method"
RPC_STATUS = "rpc.response.status_code"

URL_PATH = "url.path"
URL_SCHEME = "url.scheme"
HTTP_METHOD = "http.request.method"
HTTP_ROUTE = "http.route"
HTTP_STATUS = "http.response.status_code"

ERROR_TYPE = "error.type"

GEN_AI_OPERATION = "gen_ai.operation.name"
GEN_AI_PROVIDER = "gen_ai.provider.name"
GEN_AI_REQUEST_MODEL = "gen_ai.request.model"
GEN_AI_FINISH_REASONS = "gen_ai.response.finish_reasons"
GEN_AI_INPUT_TOKENS = "gen_ai.usage.input_tokens"
GEN_AI_CACHED_TOKENS = "gen_ai.usage.cache_read.input_tokens"
GEN_AI_OUTPUT_TOKENS = "gen_ai.usage.output_tokens"

COE_REQUEST_ID = "coe.request.id"
COE_CATEGORY = "coe.router.category"
COE_CONFIDENCE = "coe.router.confidence"
COE_FALLBACK = "coe.router.fallback"
COE_EXPERT = "coe.expert.id"
COE_TIER = "coe.tier.name"
COE_WORKER = "coe.worker.id"
COE_SERVICE = "coe.service.name"
