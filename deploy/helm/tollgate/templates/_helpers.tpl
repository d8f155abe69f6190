{{- define "tollgate.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" }}
{{- end }}

{{- /* Short enough that `-materializer-10` fits into 63 letters behind it. */}}
{{- define "tollgate.fullname" -}}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride | trunc 46 | trimSuffix "-" }}
{{- else if contains (include "tollgate.name" .) .Release.Name }}
{{- .Release.Name | trunc 46 | trimSuffix "-" }}
{{- else }}
{{- printf "%s-%s" .Release.Name (include "tollgate.name" .) | trunc 46 | trimSuffix "-" }}
{{- end }}
{{- end }}

{{- define "tollgate.selector" -}}
app.kubernetes.io/name: {{ include "tollgate.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "tollgate.labels" -}}
{{ include "tollgate.selector" . }}
app.kubernetes.io/version: {{ .Values.image.tag | default .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end }}

{{- define "tollgate.serviceAccountName" -}}
{{- if .Values.serviceAccount.create }}
{{- default (include "tollgate.fullname" .) .Values.serviceAccount.name }}
{{- else }}
{{- default "default" .Values.serviceAccount.name }}
{{- end }}
{{- end }}

{{- /* Where the file of settings comes from, so that pods start again when it changes. */}}
{{- define "tollgate.podAnnotations" -}}
{{- if not .root.Values.settingsSecret.name }}
checksum/settings: {{ .root.Values.settings | sha256sum }}
{{- end }}
{{- with .component.podAnnotations }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- /* The pod of a component. Takes: root, component (its values), name, roles, data (a volume of this source; none: that of a claim). */}}
{{- define "tollgate.podSpec" -}}
{{- $values := .root.Values -}}
serviceAccountName: {{ include "tollgate.serviceAccountName" .root }}
automountServiceAccountToken: false
enableServiceLinks: false
terminationGracePeriodSeconds: {{ .component.terminationGracePeriodSeconds }}
{{- with .component.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- with $values.imagePullSecrets }}
imagePullSecrets: {{- toYaml . | nindent 2 }}
{{- end }}
securityContext: {{- toYaml $values.podSecurityContext | nindent 2 }}
containers:
  - name: tollgate
    image: "{{ $values.image.repository }}:{{ .component.imageTag | default $values.image.tag | default .root.Chart.AppVersion }}"
    imagePullPolicy: {{ $values.image.pullPolicy }}
    args: ["serve", "--config", "/etc/tollgate/tollgate.toml", "--roles", {{ .roles | quote }}]
    env:
      - name: TOLLGATE_LISTEN
        value: "0.0.0.0:8080"
      - name: TOLLGATE_OPS_LISTEN
        value: "0.0.0.0:9090"
      - name: TOLLGATE_DATA_DIR
        value: /var/lib/tollgate
      # Where other nodes ask this one for verdicts; its name is the pod's.
      - name: POD_IP
        valueFrom:
          fieldRef:
            fieldPath: status.podIP
      - name: TOLLGATE_ADVERTISE
        value: http://$(POD_IP):9090
      - name: TOLLGATE_KAFKA_BROKERS
        value: {{ $values.kafka.brokers | quote }}
      - name: TOLLGATE_KAFKA_REPLICATION
        value: {{ $values.kafka.replication | quote }}
      - name: TOLLGATE_DATABASE_URL
        valueFrom:
          secretKeyRef:
            name: {{ $values.database.urlSecret.name }}
            key: {{ $values.database.urlSecret.key }}
      - name: TOLLGATE_ADMIN_KEY
        valueFrom:
          secretKeyRef:
            name: {{ $values.adminKey.secret.name }}
            key: {{ $values.adminKey.secret.key }}
      {{- if $values.tls.secretName }}
      - name: TOLLGATE_TLS_CERT
        value: /etc/tollgate-tls/tls.crt
      - name: TOLLGATE_TLS_KEY
        value: /etc/tollgate-tls/tls.key
      {{- with $values.tls.clientCaKey }}
      - name: TOLLGATE_TLS_CLIENT_CA
        value: /etc/tollgate-tls/{{ . }}
      {{- end }}
      {{- end }}
      {{- with .component.extraEnv }}
      {{- toYaml . | nindent 6 }}
      {{- end }}
    ports:
      - name: http
        containerPort: 8080
      - name: ops
        containerPort: 9090
    {{- /* Alive is who answers; ready is who has what it needs. Folding a long log after a start takes as long as it takes. */}}
    startupProbe:
      httpGet: {path: /healthz, port: ops}
      periodSeconds: 2
      failureThreshold: 150
    livenessProbe:
      httpGet: {path: /healthz, port: ops}
      periodSeconds: 10
      timeoutSeconds: 5
      failureThreshold: 6
    readinessProbe:
      httpGet: {path: /readyz, port: ops}
      periodSeconds: 2
      timeoutSeconds: 2
      failureThreshold: 2
    {{- with .component.preStopSeconds }}
    lifecycle:
      preStop:
        sleep:
          seconds: {{ . }}
    {{- end }}
    resources: {{- toYaml .component.resources | nindent 6 }}
    securityContext: {{- toYaml $values.containerSecurityContext | nindent 6 }}
    volumeMounts:
      - name: settings
        mountPath: /etc/tollgate
        readOnly: true
      - name: data
        mountPath: /var/lib/tollgate
      {{- if $values.tls.secretName }}
      - name: tls
        mountPath: /etc/tollgate-tls
        readOnly: true
      {{- end }}
volumes:
  - name: settings
    {{- if $values.settingsSecret.name }}
    secret:
      secretName: {{ $values.settingsSecret.name }}
      items:
        - key: {{ $values.settingsSecret.key }}
          path: tollgate.toml
    {{- else }}
    configMap:
      name: {{ include "tollgate.fullname" .root }}
    {{- end }}
  {{- with .data }}
  - name: data {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with $values.tls.secretName }}
  - name: tls
    secret:
      secretName: {{ . }}
  {{- end }}
topologySpreadConstraints:
  {{- if .component.topologySpreadConstraints }}
  {{- toYaml .component.topologySpreadConstraints | nindent 2 }}
  {{- else }}
  {{- range list "kubernetes.io/hostname" "topology.kubernetes.io/zone" }}
  - maxSkew: 1
    topologyKey: {{ . }}
    whenUnsatisfiable: ScheduleAnyway
    labelSelector:
      matchLabels:
        {{- include "tollgate.selector" $.root | nindent 8 }}
        app.kubernetes.io/component: {{ $.name }}
  {{- end }}
  {{- end }}
{{- with .component.nodeSelector }}
nodeSelector: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .component.tolerations }}
tolerations: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .component.affinity }}
affinity: {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}
