"""Whether the job of this pod is alive: alive.py JOB_TYPE.

As `airflow jobs check --local`, without the seconds of a core that importing Airflow takes: on a
busy machine that probe ran out of its time, and would have killed what was only slow.
"""

import os
import socket
import sys

import psycopg2

ALIVE = """
    select max(latest_heartbeat) > now() - interval '2 minutes' from job
    where job_type = %s and hostname = %s and state = 'running'
"""

uri = os.environ["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"].replace("+psycopg2", "")
try:
    connection = psycopg2.connect(uri, connect_timeout=5)
except psycopg2.OperationalError as error:
    print(f"The database does not answer, which no restart heals: {error}")
    sys.exit(0)
with connection, connection.cursor() as cursor:
    cursor.execute(ALIVE, (sys.argv[1], socket.gethostbyname(socket.getfqdn())))
    sys.exit(0 if cursor.fetchone()[0] else f"No sign of life of {sys.argv[1]} for two minutes.")
