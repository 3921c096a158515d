#!/bin/sh
# Fills the addresses into the configuration and starts nginx.
set -eu
: "${MLFLOW_URL:?}" "${AUTH_URL:?}"

# nginx needs its resolvers configured. IPv6 addresses are in brackets.
RESOLVER=$(awk '$1 == "nameserver" { print $2 ~ /:/ ? "[" $2 "]" : $2 }' /etc/resolv.conf | tr '\n' ' ')
export RESOLVER

folder=$(mktemp -d)
mkdir "$folder/temp"
envsubst '$MLFLOW_URL $AUTH_URL $RESOLVER' < "$(dirname "$0")/nginx.conf.template" > "$folder/nginx.conf"
exec nginx -p "$folder" -c nginx.conf
