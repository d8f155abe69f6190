-- What was used: a row an hour or day, by account, partition, meter, customer and dimensions. The view `usage` shows it in
-- columns that people can read; src/store/row.rs says how a key is made of them.
CREATE TABLE tollgate.rows (
    -- The encoded key. One of more than 2,000 bytes is its first 2,000 and the SHA-256 of all of it: an entry of an index has an end.
    key bytea PRIMARY KEY,
    -- What a longer key has behind its first 2,000 bytes.
    rest bytea,
    count bigint NOT NULL,
    last_time timestamptz NOT NULL,
    sum numeric NOT NULL,
    min numeric NOT NULL,
    max numeric NOT NULL,
    last numeric NOT NULL,
    last_id text COLLATE "C" NOT NULL
) WITH (
    -- A row is written over again and again. With room left in its page, no index hears of it.
    fillfactor = 80,
    autovacuum_vacuum_scale_factor = 0.1,
    autovacuum_vacuum_cost_delay = 0
);

-- A key is compared, never read for itself: it stays in its row as it is.
ALTER TABLE tollgate.rows ALTER COLUMN key SET STORAGE PLAIN;

-- Nearly always empty: it tells that the order of a scan is that of the index.
CREATE INDEX rows_with_rest ON tollgate.rows (key) WHERE rest IS NOT NULL;

-- How far each partition of the log is in the rows.
CREATE TABLE tollgate.progress (
    partition integer PRIMARY KEY,
    next bigint NOT NULL,
    log_time_ms bigint NOT NULL,
    committed_at timestamptz NOT NULL
) WITH (fillfactor = 50);

-- Records that say something else than the first one of their identity: the latest of each account and partition.
CREATE TABLE tollgate.conflicts (
    account bigint,
    partition integer,
    position bigint,
    first bigint NOT NULL,
    PRIMARY KEY (account, partition, position)
);

-- What is set up. Kinds: 1 account, 2 key, 3 customer, 4 meter, 5 audit, 6 meta.
CREATE TABLE tollgate.documents (
    kind smallint,
    account bigint,
    id text COLLATE "C",
    -- Of a kind that all nodes keep copies of, a removed document stays, without a body: they have to hear of it.
    body json,
    -- Of such a kind: counts its changes, over all documents.
    version bigint,
    PRIMARY KEY (kind, account, id)
);

CREATE UNIQUE INDEX documents_version ON tollgate.documents (version) WHERE version IS NOT NULL;

-- An unsigned number of four bytes, big-endian.
CREATE FUNCTION tollgate.read_u32(bytes bytea, at integer) RETURNS bigint LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE AS $$
    SELECT (get_byte(bytes, at)::bigint << 24) + (get_byte(bytes, at + 1) << 16) + (get_byte(bytes, at + 2) << 8) + get_byte(bytes, at + 3)
$$;

-- Dimensions: u8 how many, each u8 length, name, u16 length (little-endian), value. Null for the row that sets past the limit share.
CREATE FUNCTION tollgate.read_dimensions(bytes bytea) RETURNS jsonb LANGUAGE plpgsql IMMUTABLE STRICT PARALLEL SAFE AS $$
DECLARE
    dimensions jsonb := '{}';
    at integer := 1;
    name_bytes integer;
    value_bytes integer;
BEGIN
    IF get_byte(bytes, 0) = 255 THEN
        RETURN NULL;
    END IF;
    FOR i IN 1..get_byte(bytes, 0) LOOP
        name_bytes := get_byte(bytes, at);
        value_bytes := get_byte(bytes, at + 1 + name_bytes) + 256 * get_byte(bytes, at + 2 + name_bytes);
        dimensions := dimensions || jsonb_build_object(
            convert_from(substring(bytes FROM at + 2 FOR name_bytes), 'UTF8'),
            convert_from(substring(bytes FROM at + 4 + name_bytes FOR value_bytes), 'UTF8')
        );
        at := at + 3 + name_bytes + value_bytes;
    END LOOP;
    RETURN dimensions;
END
$$;

-- For people: SELECT * FROM tollgate.usage WHERE grain = 'day' AND customer = 'acme' ORDER BY start;
CREATE VIEW tollgate.usage AS
SELECT
    tollgate.read_u32(whole.key, 0) AS account,
    tollgate.read_u32(whole.key, customer.ends) AS partition,
    convert_from(substring(whole.key FROM 6 FOR meter.ends - 5), 'UTF8') AS meter,
    convert_from(substring(whole.key FROM meter.ends + 7 FOR customer.ends - meter.ends - 6), 'UTF8') AS customer,
    CASE get_byte(whole.key, meter.ends) WHEN 0 THEN 'hour' ELSE 'day' END AS grain,
    to_timestamp(tollgate.read_u32(whole.key, meter.ends + 1) * CASE get_byte(whole.key, meter.ends) WHEN 0 THEN 3600 ELSE 86400 END) AS start,
    tollgate.read_dimensions(substring(whole.key FROM customer.ends + 5)) AS dimensions,
    stored.sum,
    stored.min,
    stored.max,
    stored.last,
    stored.count,
    stored.last_time,
    stored.last_id
FROM tollgate.rows stored
CROSS JOIN LATERAL (SELECT CASE WHEN stored.rest IS NULL THEN stored.key ELSE substring(stored.key FOR 2000) || stored.rest END) AS whole (key)
CROSS JOIN LATERAL (SELECT 5 + get_byte(whole.key, 4)) AS meter (ends)
CROSS JOIN LATERAL (SELECT meter.ends + 6 + get_byte(whole.key, meter.ends + 5)) AS customer (ends);
