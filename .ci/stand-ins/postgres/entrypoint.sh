# Understands of the official image's variables what the container stack uses.
set -eu
bin=$(echo /usr/lib/postgresql/*/bin)
if [ -s "$PGDATA/PG_VERSION" ]; then exec "$bin/postgres" -c listen_addresses='*'; fi
password=$(mktemp)
printf '%s' "$POSTGRES_PASSWORD" >"$password"
"$bin/initdb" --username="$POSTGRES_USER" --pwfile="$password" --encoding=UTF8 --auth=scram-sha-256 >/dev/null
rm "$password"
echo 'host all all all scram-sha-256' >>"$PGDATA/pg_hba.conf"
echo "CREATE DATABASE $POSTGRES_DB" | "$bin/postgres" --single postgres >/dev/null
exec "$bin/postgres" -c listen_addresses='*'
