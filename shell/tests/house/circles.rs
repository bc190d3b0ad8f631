//! Files do not use each other in a circle, so that a reader understands one after another.

use crate::lines_without_tests;
use std::collections::{BTreeMap, BTreeSet};

/// Each package, or target of a package: its folder, and the file of its root module.
const ROOTS: [(&str, &str); 4] = [
    ("shell/src", "lib.rs"),
    ("shell/src/bin/shell", "main.rs"),
    ("core/src", "lib.rs"),
    ("benches/harness/src", "lib.rs"),
];

/// Which files each file uses.
type Uses = BTreeMap<String, BTreeSet<String>>;

/// The path of a module or an item below the root module.
type Words = Vec<String>;

/// A module of its own file.
struct Module {
    file: String,
    /// The paths that it names, as written.
    paths: Vec<Words>,
    /// The names that it brings into scope, with their paths as written. `*` stands for all names.
    names: Vec<(String, Words)>,
}

fn words(text: &str) -> Vec<String> {
    let mut words: Vec<String> = Vec::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let is_part = |c: char| c.is_alphanumeric() || c == '_';
        let length = match first {
            _ if is_part(first) => rest.find(|c| !is_part(c)).unwrap_or(rest.len()),
            ':' if rest.starts_with("::") => 2,
            _ => first.len_utf8(),
        };
        if !first.is_whitespace() {
            words.push(rest[..length].to_owned());
        }
        rest = &rest[length..];
    }
    words
}

/// Reads a tree of `use`, from its first word: each name with its path. Returns the number of words read.
fn tree(words: &[String], before: &[String], names: &mut Vec<(String, Words)>) -> usize {
    let mut path = before.to_vec();
    let mut at = 0;
    loop {
        match words.get(at).map(String::as_str) {
            Some("::") => at += 1,
            Some("{") => {
                at += 1;
                while words.get(at).is_some_and(|word| word != "}") {
                    at += tree(&words[at..], &path, names);
                    at += usize::from(words.get(at).is_some_and(|word| word == ","));
                }
                return at + 1;
            }
            Some("as") => {
                names.push((words[at + 1].clone(), path));
                return at + 2;
            }
            Some(word) if word != "," && word != "}" && word != ";" => {
                // `a::{self}` names `a`.
                if word != "self" || path.is_empty() {
                    path.push(word.to_owned());
                }
                at += 1;
            }
            _ => {
                names.push((path.last().cloned().unwrap_or_default(), path));
                return at;
            }
        }
    }
}

/// Reads a module's code.
fn module(file: &str, code: &str) -> Module {
    let words = words(code);
    let (mut paths, mut names) = (Vec::new(), Vec::new());
    let mut at = 0;
    while at < words.len() {
        if words[at] == "use" {
            at += 1;
            at += tree(&words[at..], &[], &mut names);
            continue;
        }
        let mut path = vec![words[at].clone()];
        while words.get(at + 1).is_some_and(|word| word == "::") && at + 2 < words.len() {
            path.push(words[at + 2].clone());
            at += 2;
        }
        if path.len() > 1 {
            paths.push(path);
        }
        at += 1;
    }
    paths.extend(names.iter().map(|(_, path)| path.clone()));
    Module { file: file.to_owned(), paths, names }
}

/// The modules of a package by their paths.
fn modules(folder: &str, root: &str) -> BTreeMap<Words, Module> {
    let mut sources: BTreeMap<String, String> = BTreeMap::new();
    for (file, _, line) in lines_without_tests(folder) {
        let code = sources.entry(file).or_default();
        code.push_str(&line);
        code.push('\n');
    }
    // The command is a target of its own.
    sources.retain(|file, _| !file.starts_with("bin/"));
    let path = |file: &str| -> Words {
        if file == root {
            return Vec::new();
        }
        let path = file.strip_suffix(".rs").expect("a source");
        path.strip_suffix("/mod").unwrap_or(path).split('/').map(String::from).collect()
    };
    sources.iter().map(|(file, code)| (path(file), module(file, code))).collect()
}

/// The file that defines what a module names by a path. Returns `None` for another package's item, and for a path that
/// leads to no item.
///
/// If the module at the end of the path only brings the item into scope, the file is the one that defines it.
fn definition(modules: &BTreeMap<Words, Module>, from: &Words, path: &[String], depth: u32) -> Option<Words> {
    let mut path = path.iter();
    let mut at = from.clone();
    let first = path.next()?;
    let mut rest: Vec<&String> = path.collect();
    match first.as_str() {
        "crate" => at.clear(),
        "self" => {}
        "super" => {
            at.pop()?;
            while rest.first().is_some_and(|word| *word == "super") {
                at.pop()?;
                rest.remove(0);
            }
        }
        _ => {
            at.push(first.clone());
            if !modules.contains_key(&at) {
                return None;
            }
        }
    }
    while let Some(next) = rest.first() {
        at.push((*next).clone());
        if !modules.contains_key(&at) {
            at.pop();
            break;
        }
        rest.remove(0);
    }
    let through =
        modules.get(&at)?.names.iter().find(|(name, _)| rest.first().is_some_and(|word| *word == name));
    if let Some((_, path)) = through
        && depth > 0
    {
        return definition(modules, &at, path, depth - 1);
    }
    Some(at)
}

/// Which file uses which.
fn uses(modules: &BTreeMap<Words, Module>) -> Uses {
    let mut uses = Uses::new();
    for (path, module) in modules {
        for named in &module.paths {
            if let Some(used) = definition(modules, path, named, 8)
                && !path.starts_with(&used)
            {
                uses.entry(module.file.clone()).or_default().insert(modules[&used].file.clone());
            }
        }
    }
    uses
}

/// Whether a file uses another one, directly or by way of others.
fn reaches(uses: &Uses, from: &str, to: &str) -> bool {
    let (mut seen, mut next) = (BTreeSet::new(), vec![from]);
    while let Some(file) = next.pop() {
        for used in uses.get(file).into_iter().flatten() {
            if used == to {
                return true;
            }
            if seen.insert(used) {
                next.push(used);
            }
        }
    }
    false
}

/// Every use that is part of a circle.
fn circles(uses: &Uses) -> Vec<(String, String)> {
    let all = uses.iter().flat_map(|(from, used)| used.iter().map(move |to| (from.clone(), to.clone())));
    all.filter(|(from, to)| reaches(uses, to, from)).collect()
}

/// A file uses another file if its code names an item that the other file defines: in a `use`, or by a path that begins
/// with `crate`, `super`, `self` or the name of a child. The item counts for the file that defines it, even if a
/// `mod.rs` between the two re-exports it by `pub use`. A `mod` line is no use. A `mod.rs` that names an item of a file
/// below it uses that file. The other direction does not count: a file is a part of the module whose folder it is in,
/// and may name what its `mod.rs` defines. So a circle leads through two files of one folder, or through two folders.
/// Tests within the files do not count.
#[test]
fn files_do_not_use_each_other_in_a_circle() {
    let mut found = Vec::new();
    let mut files = 0;
    for (folder, root) in ROOTS {
        let modules = modules(folder, root);
        files += modules.len();
        found.extend(
            circles(&uses(&modules)).into_iter().map(|(from, to)| format!("{folder}: {from} uses {to}")),
        );
    }
    assert!(files > 200, "looked in the wrong place");
    assert!(found.is_empty(), "{found:#?}");
}

#[test]
fn the_rule_finds_circles_by_use_by_path_and_by_way_of_a_parent() {
    let read = |sources: &[(&str, &str)]| {
        let path = |file: &str| -> Words {
            let path = file.strip_suffix(".rs").unwrap();
            let path = path.strip_suffix("/mod").unwrap_or(path);
            if path == "lib" { Vec::new() } else { path.split('/').map(String::from).collect() }
        };
        let modules = sources.iter().map(|(file, code)| (path(file), module(file, code))).collect();
        circles(&uses(&modules))
    };
    let root = ("lib.rs", "mod a; mod b;");
    let both = |a: &'static str, b: &'static str| read(&[root, ("a.rs", a), ("b.rs", b)]).len();
    assert_eq!(both("use crate::b::B;", "use super::a::{self, A};"), 2);
    assert_eq!(both("fn f() { crate::b::g() }", "use super::{a::A as C, x};"), 2);
    assert_eq!(both("use crate::b::{c::C, B};", ""), 0);
    assert_eq!(both("use other::b::B;", "use super::a::A;"), 0);
    // A `mod` line is no use. Naming a child's item is one. A child is a part of its parent.
    let parent = |parent, child| read(&[("lib.rs", "mod a;"), ("a/mod.rs", parent), ("a/c.rs", child)]).len();
    assert_eq!(parent("mod c;", "use super::A;"), 0);
    assert_eq!(parent("mod c; fn f() { c::g() }", "fn g() { super::f() }"), 0);
    let outside = |parent| {
        read(&[
            ("lib.rs", "mod a; mod b;"),
            ("a/mod.rs", parent),
            ("a/c.rs", "use crate::b::B;"),
            ("b.rs", "use crate::a::A;"),
        ])
        .len()
    };
    assert_eq!(outside("mod c;"), 0);
    assert_eq!(outside("mod c; fn f() { c::g() }"), 3);
    // An item that a parent re-exports counts for the file that defines it.
    let passed_on = [
        ("lib.rs", "mod a;"),
        ("a/mod.rs", "mod c; mod d; pub use c::C; pub use self::d::D;"),
        ("a/c.rs", "use super::D;"),
        ("a/d.rs", "use crate::a::C;"),
    ];
    assert_eq!(
        read(&passed_on),
        [("a/c.rs", "a/d.rs"), ("a/d.rs", "a/c.rs")].map(|(a, b)| (a.into(), b.into()))
    );
}
