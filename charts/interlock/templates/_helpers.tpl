{{/* The name of an image: (dict "images" .Values.images "image" .Values.images.guard) */}}
{{- define "interlock.image" -}}
{{ .images.registry }}/{{ .image.repository }}{{ if .image.digest }}@{{ .image.digest }}{{ else }}:{{ .images.tag }}{{ end }}
{{- end }}

{{/* A text if the API server can have MutatingAdmissionPolicies: from Kubernetes 1.36 on. */}}
{{- define "interlock.mutatingPolicies" -}}
{{- $wanted := .Values.admission.mutatingPolicies -}}
{{- if or (eq $wanted "Always") (and (eq $wanted "Auto") (semverCompare ">=1.36.0-0" .Capabilities.KubeVersion.Version)) }}true{{ end }}
{{- end }}
