-- Of an overflow row: about how many different values each dimension had. How many events they are of (8 bytes, little-endian), then as
-- src/sketch.rs says. Null for all other rows, and for overflow rows from before there were sketches.
ALTER TABLE tollgate.rows ADD COLUMN sketches bytea;

-- Sketches do not get smaller.
ALTER TABLE tollgate.rows ALTER COLUMN sketches SET STORAGE EXTERNAL;
