{{/* Helpers shared by several templates. Those called with a dict take (dict "root" $ "name" SERVICE). */}}

{{- define "coe.selector" -}}
app.kubernetes.io/name: coe
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .name }}
{{- end }}

{{- define "coe.labels" -}}
{{ include "coe.selector" . }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | replace "+" "_" | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ .root.Chart.Name }}-{{ .root.Chart.Version | replace "+" "_" }}
{{- end }}

{{- define "coe.fullname" -}}
{{- /* A long release name is truncated: a StatefulSet's pods have its name plus a ten-character hash in one label of at most 63. */}}
{{- $most := ternary 52 63 (eq .name "node") -}}
{{ printf "%s-%s" (.root.Release.Name | trunc (int (sub $most (add1 (len .name))))) .name }}
{{- end }}

{{- define "coe.image" -}}
image: {{ printf "%s/%s:%s" .root.Values.image.repository .name (.root.Values.image.tag | default .root.Chart.AppVersion) | quote }}
imagePullPolicy: {{ .root.Values.image.pullPolicy }}
{{- end }}

{{- define "coe.podSecurity" -}}
runAsNonRoot: true
runAsUser: 10001
runAsGroup: 10001
fsGroup: 10001
seccompProfile: {type: RuntimeDefault}
{{- end }}

{{/* Takes a part's values. */}}
{{- define "coe.placement" -}}
{{- with .nodeSelector }}
nodeSelector: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .affinity }}
affinity: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .tolerations }}
tolerations: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- end }}

{{- define "coe.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end }}

{{- define "coe.environment" -}}
- {name: COE_KAFKA_BOOTSTRAP, value: {{ .root.Values.kafka.bootstrap | quote }}}
- {name: COE_KAFKA_SECURITY, value: {{ .root.Values.kafka.security }}}
{{- with .root.Values.kafka.sasl }}
{{- if .mechanism }}
{{- $secret := required "kafka.sasl.mechanism needs kafka.sasl.existingSecret" .existingSecret }}
- {name: COE_KAFKA_SASL_MECHANISM, value: {{ .mechanism }}}
- {name: COE_KAFKA_SASL_USERNAME, valueFrom: {secretKeyRef: {name: {{ $secret }}, key: {{ .usernameKey }}}}}
- {name: COE_KAFKA_SASL_PASSWORD, valueFrom: {secretKeyRef: {name: {{ $secret }}, key: {{ .passwordKey }}}}}
{{- end }}
{{- end }}
{{- with .root.Values.redis }}
{{- if .existingSecret }}
- {name: COE_REDIS_URL, valueFrom: {secretKeyRef: {name: {{ .existingSecret }}, key: {{ .existingSecretKey }}}}}
{{- else }}
- {name: COE_REDIS_URL, value: {{ .url | quote }}}
{{- end }}
{{- end }}
- {name: COE_LOG_LEVEL, value: {{ .root.Values.telemetry.logLevel }}}
- {name: COE_OTLP_ENDPOINT, value: {{ .root.Values.telemetry.otlpEndpoint | quote }}}
- {name: COE_GRPC_TLS, value: {{ .root.Values.tls.grpc | quote }}}
- {name: COE_NODE, valueFrom: {fieldRef: {fieldPath: metadata.name}}}
{{- if .root.Values.tls.secretName }}
- {name: COE_TLS_CA, value: /etc/coe/tls/ca.crt}
- {name: COE_TLS_CERT, value: /etc/coe/tls/tls.crt}
- {name: COE_TLS_KEY, value: /etc/coe/tls/tls.key}
{{- end }}
{{- end }}

{{/* `env` and `envFrom` of a container: .own is the chart's list as YAML, .extra and .extraFrom come from the values. */}}
{{- define "coe.env" -}}
{{- $seen := dict -}}
{{- $all := concat (.own | fromYamlArray) .root.Values.extraEnv (.extra | default list) -}}
{{- range $all -}}
{{- if hasKey $seen .name }}{{ fail (printf "%s of extraEnv is set already: by a value of the chart, or twice" .name) }}{{ end -}}
{{- $_ := set $seen .name true -}}
{{- end -}}
env: {{- toYaml $all | nindent 2 }}
{{- with concat .root.Values.extraEnvFrom (.extraFrom | default list) }}
envFrom: {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{/* Seconds that running prompts may continue after a node is told to stop. The rest of its time is for shutdown. */}}
{{- define "coe.workerGrace" -}}
{{- $all := int .Values.node.terminationGraceSeconds -}}
{{ max (sub $all 30) (div $all 2) }}
{{- end }}

{{- define "coe.mounts" -}}
- {name: tmp, mountPath: /tmp}
{{- if .root.Values.tls.secretName }}
- {name: tls, mountPath: /etc/coe/tls, readOnly: true}
{{- end }}
{{- end }}

{{- define "coe.volumes" -}}
- {name: tmp, emptyDir: {sizeLimit: 256Mi}}
{{- if .root.Values.tls.secretName }}
- {name: tls, secret: {secretName: {{ .root.Values.tls.secretName }}}}
{{- end }}
{{- end }}

{{/* Probes of a container whose gRPC port is .port. The kubelet's gRPC probe does not support TLS. A worker watches itself. */}}
{{- define "coe.probes" -}}
{{- $check := ternary (dict "grpc" (dict "port" .port)) (dict "exec" (dict "command" (list "python" "-m" "coe.local.probe" (printf "127.0.0.1:%d" (int .port))))) (eq .root.Values.tls.grpc "off") -}}
{{- $alive := dict "tcpSocket" (dict "port" .port) -}}
{{- if and (eq .root.Values.tls.grpc "off") (ne .name "expert-worker") -}}
{{- $alive = dict "grpc" (dict "port" .port "service" "liveness") -}}
{{- end -}}
# Startup and liveness probes ignore health: a restart does not help a service that waits for Kafka, only one that hangs.
startupProbe:
  tcpSocket: {port: {{ .port }}}
  periodSeconds: 5
  failureThreshold: 60
readinessProbe:
  {{- toYaml $check | nindent 2 }}
  periodSeconds: 5
  timeoutSeconds: 5
livenessProbe:
  {{- toYaml $alive | nindent 2 }}
  periodSeconds: 10
  timeoutSeconds: 5
  failureThreshold: 6
{{- end }}

{{- define "coe.spread" -}}
{{- range list "kubernetes.io/hostname" "topology.kubernetes.io/zone" }}
- maxSkew: 1
  topologyKey: {{ . }}
  whenUnsatisfiable: ScheduleAnyway
  labelSelector: {matchLabels: {{ include "coe.selector" $ | fromYaml | toJson }}}
{{- end }}
{{- end }}
