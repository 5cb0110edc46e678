{{/* The name of all that a release makes: its own. */}}
{{- define "chatd.name" -}}
{{- .Release.Name | trunc 50 | trimSuffix "-" }}
{{- end }}

{{/* What tells a release's pods from others, for ever. */}}
{{- define "chatd.selector" -}}
app.kubernetes.io/name: chatd
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "chatd.labels" -}}
{{ include "chatd.selector" . }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end }}

{{- define "chatd.image" -}}
{{- with .Values.image }}
{{- if .digest }}{{ .repository }}@{{ .digest }}
{{- else }}{{ .repository }}:{{ .tag | default $.Chart.AppVersion | default "latest" }}
{{- end }}
{{- end }}
{{- end }}

{{- define "chatd.secret" -}}
{{ .Values.secrets.existing | default (include "chatd.name" .) }}
{{- end }}

{{/* The Secret with keys.json; empty where chatd makes its own. */}}
{{- define "chatd.keys" -}}
{{- if .Values.keys.existing }}{{ .Values.keys.existing }}
{{- else if .Values.keys.create }}{{ include "chatd.name" . }}-keys
{{- else if not .Values.persistence.enabled }}
{{- fail "without persistence every restart would sign everybody out: set keys.create or keys.existing" }}
{{- end }}
{{- end }}

{{/* A setting as chatd reads it from a variable. YAML's whole numbers arrive here as 1e+06. */}}
{{- define "chatd.value" -}}
{{- if kindIs "slice" . }}{{ toJson . }}
{{- else if and (kindIs "float64" .) (eq (floor .) .) }}{{ int64 . }}
{{- else }}{{ . }}
{{- end }}
{{- end }}
