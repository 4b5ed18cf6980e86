# Brings database, roles, pools and the first login to the state of this version; harmless to repeat.
set -eu
unset_names=$(env | sed -n 's/=.*REPLACE_ME.*//p' | sort | tr '\n' ' ')
if [ -n "$unset_names" ]; then
    echo "These settings still say REPLACE_ME: $unset_names" >&2
    exit 2
fi
airflow db check --retry 60 --retry-delay 5
airflow db migrate
airflow sync-perm
airflow pools import /etc/vidpipe/pools.json
# Where it is there already its password stays: people may have changed it. It is typed twice, so to
# speak: arguments can be read by whoever sees the list of processes.
printf '%s\n' "$AIRFLOW_ADMIN_PASSWORD" "$AIRFLOW_ADMIN_PASSWORD" |
    airflow users create --username admin --role Admin \
        --firstname vidpipe --lastname admin --email admin@vidpipe.invalid
