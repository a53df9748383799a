//! The order of a closure's store paths: the most popular first (upstream's
//! `closure/layered.go` and `popularity.go`).

use std::collections::{BTreeSet, HashMap};

use super::Error;
use crate::formats::go_json::{self, List, go_object};

/// A store path and what it refers to, as Nix's `exportReferencesGraph` describes it.
#[derive(Clone, Debug, Default)]
pub struct Node {
    pub(super) path: String,
    pub(super) references: List<String>,
}

go_object!(Node { "path" => path, "references" => references });

/// Reads a graph: a list of objects with `path` and `references`. `file` is its name in
/// errors.
pub fn parse(file: &str, text: &[u8]) -> Result<Vec<Node>, Error> {
    let nodes: List<Node> = go_json::parse(text).map_err(|source| Error::Shape {
        what: "graph",
        file: file.to_owned(),
        source,
    })?;
    Ok(nodes.0)
}

/// Leaves out paths that nothing else in the graph refers to.
pub fn without(nodes: Vec<Node>, ignored: &[String]) -> Result<Vec<Node>, Error> {
    let is_ignored = |path: &String| ignored.contains(path);
    let rest: Vec<Node> = nodes.into_iter().filter(|node| !is_ignored(&node.path)).collect();
    for node in &rest {
        if let Some(path) = node.references.0.iter().find(|path| is_ignored(path)) {
            return Err(Error::Ignored { path: path.clone(), by: node.path.clone() });
        }
    }
    Ok(rest)
}

/// The part of a graph that these paths and what they refer to make.
#[must_use]
pub fn closure_of(nodes: &[Node], roots: &[String]) -> Vec<Node> {
    let by_path: HashMap<&str, &Node> =
        nodes.iter().map(|node| (node.path.as_str(), node)).collect();
    let mut waiting: Vec<&str> = roots.iter().map(String::as_str).collect();
    let mut reached: BTreeSet<&str> = BTreeSet::new();
    while let Some(path) = waiting.pop() {
        if let Some(node) = by_path.get(path).filter(|_| reached.insert(path)) {
            waiting.extend(node.references.0.iter().map(String::as_str));
        }
    }
    nodes.iter().filter(|node| reached.contains(node.path.as_str())).cloned().collect()
}

/// Returns all paths of a graph, those that only occur as references too. The score of a
/// path is the number of chains of references that end in it; paths with higher scores come
/// first, and of those with equal scores the one that occurs later.
pub(super) fn by_popularity(nodes: &[Node]) -> Result<Vec<String>, Error> {
    let mut numbers: HashMap<&str, usize> = HashMap::new();
    let mut paths: Vec<&str> = Vec::new();
    // A path's references, each once and never itself.
    let mut references: Vec<BTreeSet<usize>> = Vec::new();
    for node in nodes {
        let mut number = |path| {
            *numbers.entry(path).or_insert_with(|| {
                paths.push(path);
                references.push(BTreeSet::new());
                paths.len() - 1
            })
        };
        let from = number(node.path.as_str());
        let all: Vec<usize> = node.references.0.iter().map(|path| number(path)).collect();
        references[from].extend(all.into_iter().filter(|to| *to != from));
    }
    let scores = scores(&paths, &references)?;
    let mut order: Vec<usize> = (0..paths.len()).collect();
    order.sort_by(|one, other| scores[*other].cmp(&scores[*one]).then(other.cmp(one)));
    Ok(order.into_iter().map(|number| paths[number].to_owned()).collect())
}

/// The score of each path: one, and those of all that refer to it. Large closures have more
/// chains than fit 64 bits; the sums wrap, as upstream's do.
fn scores(paths: &[&str], references: &[BTreeSet<usize>]) -> Result<Vec<i64>, Error> {
    let mut waiting = vec![0_usize; paths.len()];
    for to in references.iter().flatten() {
        waiting[*to] += 1;
    }
    let mut scores = vec![1_i64; paths.len()];
    let mut ready: Vec<usize> = (0..paths.len()).filter(|number| waiting[*number] == 0).collect();
    let mut done = 0;
    while let Some(from) = ready.pop() {
        done += 1;
        for to in &references[from] {
            scores[*to] = scores[*to].wrapping_add(scores[from]);
            waiting[*to] -= 1;
            if waiting[*to] == 0 {
                ready.push(*to);
            }
        }
    }
    if done == paths.len() {
        return Ok(scores);
    }
    Err(Error::Cycle { paths: cycle(paths, references, &waiting) })
}

/// A cycle among the paths that still wait for others.
fn cycle(paths: &[&str], references: &[BTreeSet<usize>], waiting: &[usize]) -> Vec<String> {
    let mut way: Vec<usize> = Vec::new();
    // Each of these is referred to by another of them: backwards, there is always a next.
    let mut next = waiting.iter().position(|count| *count > 0);
    while let Some(number) = next {
        if let Some(start) = way.iter().position(|earlier| *earlier == number) {
            way.push(number);
            let circle = way[start..].iter().rev();
            return circle.map(|number| paths[*number].to_owned()).collect();
        }
        way.push(number);
        next =
            (0..paths.len()).find(|from| waiting[*from] > 0 && references[*from].contains(&number));
    }
    Vec::new()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn graph(edges: &[(&str, &[&str])]) -> Vec<Node> {
        let node = |(path, references): &(&str, &[&str])| Node {
            path: (*path).to_owned(),
            references: List(references.iter().map(|path| (*path).to_owned()).collect()),
        };
        edges.iter().map(node).collect()
    }

    // Upstream's own test, `closure/popularity_test.go`.
    #[test]
    fn popular_paths_come_first() {
        let graph = graph(&[
            ("A", &["B", "C"]),
            ("B", &["D", "E"]),
            ("C", &["E", "F"]),
            ("D", &["F"]),
            ("E", &["F"]),
            ("F", &[]),
            ("G", &[]),
        ]);
        let order = by_popularity(&graph).expect("an order").join("");
        assert!(order.starts_with("FE"), "{order}");
        assert_eq!(order.len(), 7);
    }

    #[test]
    fn ties_are_in_reverse_order_and_a_reference_counts_once() {
        let ties = graph(&[("a", &[]), ("b", &["b", "c", "c"]), ("d", &[])]);
        assert_eq!(by_popularity(&ties).expect("an order"), ["c", "d", "b", "a"]);
    }

    #[test]
    fn a_closure_is_what_its_roots_reach() {
        let graph = graph(&[("a", &["b"]), ("b", &["b", "c"]), ("c", &[]), ("d", &["a", "c"])]);
        let names = |roots: &[&str]| {
            let roots: Vec<String> = roots.iter().map(|root| (*root).to_owned()).collect();
            let nodes = closure_of(&graph, &roots);
            nodes.into_iter().map(|node| node.path).collect::<String>()
        };
        assert_eq!(names(&["b"]), "bc");
        assert_eq!(names(&["a", "c", "x"]), "abc");
        assert_eq!(names(&[]), "");
    }

    #[test]
    fn a_cycle_is_named() {
        let graph = graph(&[("a", &["b"]), ("b", &["c"]), ("c", &["b"]), ("d", &["a"])]);
        let error = by_popularity(&graph).expect_err("a cycle").to_string();
        assert!(
            ["the graph has a cycle: b → c → b", "the graph has a cycle: c → b → c"]
                .contains(&error.as_str()),
            "{error}"
        );
    }

    #[test]
    fn scores_wrap() {
        // Each of 70 paths refers to all that follow: the last has 2^69 chains.
        let names: Vec<String> = (0..70).map(|n| format!("{n:02}")).collect();
        let nodes: Vec<Node> = (0..70)
            .map(|n| Node { path: names[n].clone(), references: List(names[n + 1..].to_vec()) })
            .collect();
        let order = by_popularity(&nodes).expect("an order");
        // 2^63 is negative, and 2^64 and more are 0.
        assert_eq!(order[0], "62");
        assert_eq!(order.last().map(String::as_str), Some("63"));
    }

    /// How many chains of references end in a path, counted one by one.
    fn chains(nodes: &[(String, Vec<String>)], path: &str) -> i64 {
        let from = nodes.iter().filter(|(from, to)| from != path && to.iter().any(|to| to == path));
        1 + from.map(|(from, _)| chains(nodes, from)).sum::<i64>()
    }

    proptest::proptest! {
        #[test]
        fn any_order_is_by_chains_and_then_by_place(
            edges in proptest::collection::vec((0_usize..9, 0_usize..9), 0..30),
        ) {
            // References lead to higher numbers only, so there is no cycle.
            let mut nodes: Vec<(String, Vec<String>)> =
                (0..9).map(|number| (number.to_string(), Vec::new())).collect();
            for (one, other) in edges {
                let (from, to) = (one.min(other), one.max(other).to_string());
                if !nodes[from].1.contains(&to) {
                    nodes[from].1.push(to);
                }
            }
            let graph: Vec<Node> = nodes
                .iter()
                .map(|(path, references)| Node { path: path.clone(), references: List(references.clone()) })
                .collect();
            let mut places: Vec<&String> = Vec::new();
            for (path, references) in &nodes {
                for path in std::iter::once(path).chain(references) {
                    if !places.contains(&path) {
                        places.push(path);
                    }
                }
            }
            let mut expected: Vec<(i64, usize, String)> = places
                .iter()
                .enumerate()
                .map(|(place, path)| (chains(&nodes, path), place, (*path).clone()))
                .collect();
            expected.sort();
            let expected: Vec<String> = expected.into_iter().rev().map(|(_, _, path)| path).collect();
            proptest::prop_assert_eq!(by_popularity(&graph).expect("an order"), expected);
        }
    }
}
