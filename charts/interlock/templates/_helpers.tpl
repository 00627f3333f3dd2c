{{/* The name of an image: (dict "images" .Values.images "image" .Values.images.guard "chart" .Chart) */}}
{{- define "interlock.image" -}}
{{ .images.registry }}/{{ .image.repository }}{{ if .image.digest }}@{{ .image.digest }}{{ else }}:{{ .images.tag | default .chart.AppVersion }}{{ end }}
{{- end }}

{{/* A text if the API server can have MutatingAdmissionPolicies: from Kubernetes 1.36 on. */}}
{{- define "interlock.mutatingPolicies" -}}
{{- $wanted := .Values.admission.mutatingPolicies -}}
{{- if or (eq $wanted "Always") (and (eq $wanted "Auto") (semverCompare ">=1.36.0-0" .Capabilities.KubeVersion.Version)) }}true{{ end }}
{{- end }}

{{/* A text if the collector stores its records in PostgreSQL. */}}
{{- define "interlock.auditInPostgres" -}}
{{- range .Values.audit.env }}{{ if eq .name "INTERLOCK_POSTGRES" }}true{{ end }}{{ end }}
{{- end }}

{{/* A text if several collectors can run: only PostgreSQL and no volume of one node lets a new one start first. */}}
{{- define "interlock.auditRolls" -}}
{{- if and (include "interlock.auditInPostgres" .) (not .Values.audit.persistence.enabled) }}true{{ end }}
{{- end }}
