//! The database of a Nix store, for images in which Nix runs (Nix `src/libstore/schema.sql`,
//! upstream's `makeNixDatabase`).

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::path::Path;

use rusqlite::{Connection, params};

use super::Error;
use crate::formats::go_json::{self, List, go_object};
use crate::formats::layers::{Layer, PathOptions};

/// Version 10 of the schema, which Nix has had since 2.0.
const SCHEMA: &str = "
create table if not exists ValidPaths (
    id               integer primary key autoincrement not null,
    path             text unique not null,
    hash             text not null,
    registrationTime integer not null,
    deriver          text,
    narSize          integer,
    ultimate         integer,
    sigs             text,
    ca               text
);
create table if not exists Refs (
    referrer  integer not null,
    reference integer not null,
    primary key (referrer, reference),
    foreign key (referrer) references ValidPaths(id) on delete cascade,
    foreign key (reference) references ValidPaths(id) on delete restrict
);
create index if not exists IndexReferrer on Refs(referrer);
create index if not exists IndexReference on Refs(reference);
create trigger if not exists DeleteSelfRefs before delete on ValidPaths
  begin
    delete from Refs where referrer = old.id and reference = old.id;
  end;
create table if not exists DerivationOutputs (
    drv  integer not null,
    id   text not null,
    path text not null,
    primary key (drv, id),
    foreign key (drv) references ValidPaths(id) on delete cascade
);
create index if not exists IndexDerivationOutputs on DerivationOutputs(path);
";
/// The version of the schema, as in the file beside the database.
const SCHEMA_VERSION: &str = "10";

/// A store path as Nix's `exportReferencesGraph` describes it with `__structuredAttrs`.
#[derive(Debug, Default)]
pub struct StoreNode {
    path: String,
    /// Other paths: what refers to itself is not among them.
    references: List<String>,
    /// `sha256:` and the hash in Nix's base 32.
    nar_hash: String,
    nar_size: i64,
}

go_object!(StoreNode {
    "path" => path,
    "references" => references,
    "narHash" => nar_hash,
    "narSize" => nar_size,
});

/// Reads a graph with hashes and sizes. `file` is its name in errors.
pub fn parse_store_graph(file: &str, text: &[u8]) -> Result<Vec<StoreNode>, Error> {
    let what = "graph";
    let shape = |source| Error::Shape { what, file: file.to_owned(), source };
    Ok(go_json::parse::<List<StoreNode>>(text).map_err(shape)?.0)
}

/// Returns the store paths that an image has below `/nix/store`: those of its layers, and those
/// that `roots` refer to, which are themselves elsewhere in the image, or not in it.
#[must_use]
pub fn store_paths(graph: &[StoreNode], roots: &[String], layers: &[Layer]) -> BTreeSet<String> {
    let is_moved = |options: &PathOptions| !options.rewrite.regex.is_empty();
    let mut found: BTreeSet<String> = layers
        .iter()
        .flat_map(|layer| &layer.paths)
        .filter(|record| record.options.as_ref().is_none_or(|options| !is_moved(options)))
        .map(|record| record.path.clone())
        .collect();
    let nodes: HashMap<&str, &StoreNode> =
        graph.iter().map(|node| (node.path.as_str(), node)).collect();
    let elsewhere: HashSet<&str> = roots.iter().map(String::as_str).collect();
    let (mut waiting, mut seen): (Vec<&str>, HashSet<&str>) =
        (elsewhere.iter().copied().collect(), HashSet::new());
    while let Some(path) = waiting.pop() {
        if !seen.insert(path) {
            continue;
        }
        if !elsewhere.contains(path) {
            found.insert(path.to_owned());
        }
        let references = nodes.get(path).map(|node| &node.references.0);
        waiting.extend(references.into_iter().flatten().map(String::as_str));
    }
    found
}

/// Writes the tree of a store's database into the directory `out`: the database, a root for
/// the garbage collector for each path, and the directory for files that are linked.
pub fn write_store_database(
    graph: &[StoreNode],
    paths: &BTreeSet<String>,
    out: &Path,
) -> Result<(), Error> {
    let failed = |source| Error::Database { path: out.to_owned(), source };
    let database = out.join("nix/var/nix/db");
    let roots = out.join("nix/var/nix/gcroots/docker");
    for directory in [&database, &roots, &out.join("nix/store/.links")] {
        fs::create_dir_all(directory).map_err(failed)?;
    }
    // In their order, each once.
    let nodes: BTreeMap<&str, &StoreNode> = graph
        .iter()
        .filter(|node| paths.contains(&node.path))
        .map(|node| (node.path.as_str(), node))
        .collect();
    fill(&nodes, &database.join("db.sqlite")).map_err(|error| failed(io::Error::other(error)))?;
    fs::write(database.join("schema"), SCHEMA_VERSION).map_err(failed)?;
    for path in nodes.keys() {
        if let Some(name) = Path::new(path).file_name() {
            symlink(path, roots.join(name)).map_err(failed)?;
        }
    }
    Ok(())
}

fn fill(
    nodes: &BTreeMap<&str, &StoreNode>,
    file: &Path,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let mut connection = Connection::open(file)?;
    // Without a second file, and with the same bytes each time.
    connection.execute_batch("pragma journal_mode = memory; pragma page_size = 4096;")?;
    connection.execute_batch(SCHEMA)?;
    let transaction = connection.transaction()?;
    let mut ids = HashMap::new();
    for (path, node) in nodes {
        // Nix keeps the hash in hexadecimal digits.
        let hash = node.nar_hash.strip_prefix("sha256:").and_then(nix_base32::from_nix_base32);
        let hash = hash.filter(|hash| hash.len() == 32);
        let hash = hash.ok_or_else(|| format!("`{path}` has no SHA-256 hash"))?;
        transaction.execute(
            "insert into ValidPaths (path, hash, registrationTime, narSize) values (?1, ?2, 0, ?3)",
            params![path, format!("sha256:{}", hex::encode(hash)), node.nar_size],
        )?;
        ids.insert(*path, transaction.last_insert_rowid());
    }
    for (path, node) in nodes {
        let references: BTreeSet<&str> = node.references.0.iter().map(String::as_str).collect();
        for reference in references {
            // What is elsewhere in the image is no store path there.
            if let (Some(from), Some(to)) = (ids.get(path), ids.get(reference)) {
                transaction.execute("insert into Refs values (?1, ?2)", params![from, to])?;
            }
        }
    }
    transaction.commit()?;
    Ok(connection.close().map_err(|(_, error)| error)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oci::digest::Digest;

    const A: &str = "/nix/store/aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa-a";
    const B: &str = "/nix/store/bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb-b";
    const ROOT: &str = "/nix/store/cccccccccccccccccccccccccccccccc-root";

    fn graph() -> Vec<StoreNode> {
        let hash = "sha256:1q0pf7rpki4z8v81wdx2czbz8mmcnrwnz0bw3f9x66yqijs0pfjz";
        let node = |path: &str, references: &str| {
            format!(
                r#"{{"path":"{path}","references":[{references}],"narHash":"{hash}","narSize":5}}"#
            )
        };
        let text = format!(
            "[{},{},{}]",
            node(ROOT, &format!("{A:?}")),
            node(A, &format!("{B:?},{ROOT:?}")),
            node(B, "")
        );
        parse_store_graph("graph", text.as_bytes()).expect("a graph")
    }

    #[test]
    fn only_what_is_in_the_store_of_the_image_is_listed() {
        let graph = graph();
        let paths = store_paths(&graph, &[ROOT.to_owned()], &[]);
        assert_eq!(paths, BTreeSet::from([A.to_owned(), B.to_owned()]));
        let (one, two) = (tempfile::tempdir().expect("one"), tempfile::tempdir().expect("two"));
        let mut digests = Vec::new();
        for directory in [&one, &two] {
            write_store_database(&graph, &paths, directory.path()).expect("written");
            let database = fs::read(directory.path().join("nix/var/nix/db/db.sqlite"));
            digests.push(Digest::sha256(&database.expect("a database")));
            let entries = fs::read_dir(directory.path().join("nix/var/nix/db")).expect("listed");
            assert_eq!(entries.count(), 2);
        }
        assert_eq!(digests[0], digests[1]);
        let file = one.path().join("nix/var/nix/db/db.sqlite");
        let connection = Connection::open(file).expect("a database");
        let count = |query: &str| -> i64 {
            connection.query_row(query, [], |row| row.get(0)).expect("a number")
        };
        assert_eq!(count("select count(*) from ValidPaths"), 2);
        // The root that `a` refers to is not a path there.
        assert_eq!(count("select count(*) from Refs"), 1);
        let link = fs::read_link(one.path().join("nix/var/nix/gcroots/docker").join(&A[11..]));
        assert_eq!(link.expect("a link"), Path::new(A));
    }
}
