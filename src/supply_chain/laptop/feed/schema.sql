-- The tables of grype's database, model 6, that the starter database fills.
-- `grype db import` adds the other tables and every index. Types, order and names of constraints are
-- compared with its own models: where they differ it rebuilds the table, and fails on foreign keys.

CREATE TABLE blobs (
    id integer PRIMARY KEY AUTOINCREMENT,
    value text NOT NULL
);
CREATE TABLE db_metadata (
    build_timestamp datetime NOT NULL,
    model integer NOT NULL,
    revision integer NOT NULL,
    addition integer NOT NULL
);
CREATE TABLE providers (
    id text,
    version text,
    processor text,
    date_captured datetime,
    input_digest text,
    PRIMARY KEY (id)
);
CREATE TABLE vulnerability_handles (
    id integer PRIMARY KEY AUTOINCREMENT,
    name text NOT NULL,
    status text NOT NULL,
    published_date datetime,
    modified_date datetime,
    withdrawn_date datetime,
    provider_id text NOT NULL,
    blob_id integer,
    CONSTRAINT fk_vulnerability_handles_provider FOREIGN KEY (provider_id) REFERENCES providers(id)
);
CREATE TABLE vulnerability_aliases (
    name text,
    alias text NOT NULL,
    PRIMARY KEY (name,alias)
);
CREATE TABLE operating_systems (
    id integer PRIMARY KEY AUTOINCREMENT,
    name text,
    release_id text,
    major_version text,
    minor_version text,
    label_version text,
    codename text,
    channel text,
    eol_date datetime,
    eoas_date datetime
);
CREATE TABLE packages (
    id integer PRIMARY KEY AUTOINCREMENT,
    ecosystem text,
    name text
);
CREATE TABLE affected_package_handles (
    id integer PRIMARY KEY AUTOINCREMENT,
    vulnerability_id integer NOT NULL,
    operating_system_id integer,
    package_id integer,
    blob_id integer,
    CONSTRAINT fk_affected_package_handles_package FOREIGN KEY (package_id) REFERENCES packages(id),
    CONSTRAINT fk_affected_package_handles_vulnerability FOREIGN KEY (vulnerability_id) REFERENCES vulnerability_handles(id),
    CONSTRAINT fk_affected_package_handles_operating_system FOREIGN KEY (operating_system_id) REFERENCES operating_systems(id)
);
CREATE TABLE known_exploited_vulnerability_handles (
    id integer PRIMARY KEY AUTOINCREMENT,
    cve text NOT NULL,
    blob_id integer
);
CREATE TABLE operating_system_specifier_overrides (
    alias text,
    version text,
    version_pattern text,
    codename text,
    channel text,
    replacement text,
    replacement_major_version text,
    replacement_minor_version text,
    replacement_label_version text,
    replacement_channel text,
    rolling numeric,
    applicable_client_db_schemas text,
    PRIMARY KEY (alias,version,version_pattern,replacement,replacement_major_version,replacement_minor_version,replacement_label_version,replacement_channel,rolling)
);
CREATE TABLE package_specifier_overrides (
    ecosystem text,
    replacement_ecosystem text,
    PRIMARY KEY (ecosystem,replacement_ecosystem)
);
CREATE TABLE architecture_aliases (
    alias text,
    canonical text NOT NULL,
    PRIMARY KEY (alias)
);
