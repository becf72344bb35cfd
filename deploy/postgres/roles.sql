-- Creates the roles of Roomcast for one database. Run it as superuser; it can be run again:
--   psql -v ON_ERROR_STOP=1 -v persister_password=… -v api_password=… -d <database> -f roles.sql
-- Passwords without -v are read from the environment, which other users of the machine can't see:
-- POSTGRES_PERSISTER_PASSWORD, POSTGRES_API_PASSWORD, POSTGRES_MONITOR_PASSWORD (psql 15 and newer).
-- The database is the one psql is connected to, unless -v database=… names another.
--
-- What must hold: roomcast_owner owns the database and every table. Nobody can log in as it; only the
-- persister switches to it, for migrations. The persister writes rows. api can only SELECT, also from
-- tables of later migrations. monitor sees statistics but no rows. fanout has no role.

\set QUIET on
\if :{?persister_password}
\else
\getenv persister_password POSTGRES_PERSISTER_PASSWORD
\endif
\if :{?api_password}
\else
\getenv api_password POSTGRES_API_PASSWORD
\endif
\if :{?monitor_password}
\else
\getenv monitor_password POSTGRES_MONITOR_PASSWORD
\endif
\if :{?database}
\connect :"database"
\else
\set database :DBNAME
\endif
SET client_min_messages = warning;

-- If the roles exist already, only their passwords change.
SELECT format('CREATE ROLE %I', name)
FROM unnest(ARRAY['roomcast_owner', 'roomcast_persister', 'roomcast_api', 'roomcast_monitor']) AS name
WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = name)
\gexec
ALTER ROLE roomcast_owner NOLOGIN;
ALTER ROLE roomcast_persister LOGIN NOINHERIT PASSWORD :'persister_password';
ALTER ROLE roomcast_api LOGIN PASSWORD :'api_password';
\if :{?monitor_password}
ALTER ROLE roomcast_monitor LOGIN PASSWORD :'monitor_password';
\endif

GRANT roomcast_owner TO roomcast_persister;
GRANT pg_monitor TO roomcast_monitor;
-- api has no grants for writing anyway. This setting gives a clearer error.
ALTER ROLE roomcast_api SET default_transaction_read_only = on;

ALTER DATABASE :"database" OWNER TO roomcast_owner;
REVOKE ALL ON DATABASE :"database" FROM PUBLIC;
GRANT CONNECT ON DATABASE :"database" TO roomcast_persister, roomcast_api, roomcast_monitor;

REVOKE ALL ON SCHEMA public FROM PUBLIC;
GRANT USAGE, CREATE ON SCHEMA public TO roomcast_owner;
GRANT USAGE ON SCHEMA public TO roomcast_persister, roomcast_api;

ALTER DEFAULT PRIVILEGES FOR ROLE roomcast_owner IN SCHEMA public
    GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO roomcast_persister;
ALTER DEFAULT PRIVILEGES FOR ROLE roomcast_owner IN SCHEMA public
    GRANT SELECT ON TABLES TO roomcast_api;
