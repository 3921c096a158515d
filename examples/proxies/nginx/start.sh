#!/bin/sh
# Puts the addresses into the configuration and becomes nginx.
set -eu
: "${MLFLOW_URL:?}" "${AUTH_URL:?}"

# nginx asks no resolver but those that it is told. An IPv6 address stands in brackets.
RESOLVER=$(awk '$1 == "nameserver" { print $2 ~ /:/ ? "[" $2 "]" : $2 }' /etc/resolv.conf | tr '\n' ' ')
export RESOLVER

folder=$(mktemp -d)
mkdir "$folder/temp"
envsubst '$MLFLOW_URL $AUTH_URL $RESOLVER' < "$(dirname "$0")/nginx.conf.template" > "$folder/nginx.conf"
exec nginx -p "$folder" -c nginx.conf
