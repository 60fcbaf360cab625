-- The first cut: what is claimed is a row, and the database keeps it consistent.

CREATE EXTENSION IF NOT EXISTS pg_trgm; -- a GIN index that answers geohash LIKE 'u4pr%'

CREATE TABLE hunts (
	hunt text PRIMARY KEY
);

-- A claim changes no indexed column and finds room on its page, so it is a
-- heap-only update and leaves the GIN index alone.
CREATE TABLE tiles (
	hunt       text   NOT NULL REFERENCES hunts,
	tick       bigint NOT NULL,
	tile       int    NOT NULL,
	geohash    text   NOT NULL,
	reward     bigint NOT NULL,
	holder     text,
	claimed_at timestamptz,
	PRIMARY KEY (hunt, tick, tile)
) WITH (fillfactor = 60);

CREATE INDEX tiles_geohash ON tiles USING gin (geohash gin_trgm_ops);

-- What followers read, by id. They are not told by pg_notify: it takes one lock
-- for the whole database until the commit is on disk, and so ends group commit.
CREATE TABLE claims (
	id         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
	hunt       text        NOT NULL,
	tick       bigint      NOT NULL,
	tile       int         NOT NULL,
	player     text        NOT NULL,
	geohash    text        NOT NULL,
	reward     bigint      NOT NULL,
	claimed_at timestamptz NOT NULL
);

CREATE FUNCTION tile_claimed() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	INSERT INTO claims (hunt, tick, tile, player, geohash, reward, claimed_at)
	VALUES (NEW.hunt, NEW.tick, NEW.tile, NEW.holder, NEW.geohash, NEW.reward, NEW.claimed_at);
	RETURN NULL;
END $$;

CREATE TRIGGER tile_claimed AFTER UPDATE OF holder ON tiles
	FOR EACH ROW WHEN (OLD.holder IS NULL AND NEW.holder IS NOT NULL)
	EXECUTE FUNCTION tile_claimed();

CREATE MATERIALIZED VIEW standings AS
	SELECT hunt, player, sum(reward)::bigint AS score, count(*) AS claims, max(claimed_at) AS last_at
	FROM claims GROUP BY hunt, player;

CREATE UNIQUE INDEX standings_player ON standings (hunt, player); -- which a concurrent refresh needs
CREATE INDEX standings_rank ON standings (hunt, score DESC);

-- Both ways of locking return null to the one who has just won, else the holder,
-- and '' where there is no such tile. They are functions to save round trips
-- while a row is locked.

CREATE FUNCTION claim_for_update(h text, t bigint, i int, p text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE has text;
BEGIN
	SELECT holder INTO has FROM tiles WHERE hunt = h AND tick = t AND tile = i FOR UPDATE;
	IF NOT FOUND THEN
		RETURN '';
	END IF;
	IF has IS NULL THEN
		UPDATE tiles SET holder = p, claimed_at = clock_timestamp() WHERE hunt = h AND tick = t AND tile = i;
	END IF;
	RETURN has;
END $$;

CREATE FUNCTION claim_if_free(h text, t bigint, i int, p text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE has text;
BEGIN
	UPDATE tiles SET holder = p, claimed_at = clock_timestamp() WHERE hunt = h AND tick = t AND tile = i AND holder IS NULL;
	IF FOUND THEN
		RETURN NULL;
	END IF;
	SELECT coalesce(holder, '') INTO has FROM tiles WHERE hunt = h AND tick = t AND tile = i;
	RETURN coalesce(has, '');
END $$;
