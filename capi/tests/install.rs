//! pkg-config finds what `packaging/c` installs, and programs built with its flags work.

mod common;

use common::{SONAME, home, installed, is_there, run};
use std::path::Path;
use std::process::Command;

#[test]
fn programs_are_built_with_what_pkg_config_says() {
    for tool in ["cc", "pkg-config", "readelf"] {
        if !is_there(tool) {
            return eprintln!("SKIPPED: installing for programs in C: there is no {tool}");
        }
    }
    let home = home();
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let prefix = installed(home.path());
    let link = |name: &str| std::fs::read_link(prefix.join("lib").join(name)).expect("a link");
    assert_eq!(link("libwhorl_c.so").as_os_str(), SONAME);
    let real = link(SONAME);
    assert_eq!(real.as_os_str(), concat!("libwhorl_c.so.", env!("CARGO_PKG_VERSION")));
    assert!(prefix.join("lib").join(&real).is_file());
    let asked = |arguments: &[&str]| {
        let mut command = Command::new("pkg-config");
        command.args(arguments).arg("whorl").env("PKG_CONFIG_PATH", prefix.join("lib/pkgconfig"));
        run(&mut command)
    };
    assert_eq!(asked(&["--modversion"]).trim(), env!("CARGO_PKG_VERSION"));
    for (way, arguments) in
        [("shared", &["--cflags", "--libs"][..]), ("static", &["--static", "--cflags", "--libs"])]
    {
        let mut words: Vec<_> = asked(arguments).split_whitespace().map(String::from).collect();
        if way == "static" {
            for word in words.iter_mut().filter(|word| *word == "-lwhorl_c") {
                *word = "-l:libwhorl_c.a".into();
            }
        }
        let program = home.path().join(way);
        let mut compile = Command::new("cc");
        run(compile.arg(here.join("tests/mistakes.c")).args(&words).arg("-o").arg(&program));
        let mut command = Command::new(&program);
        command.current_dir(home.path()).env("XDG_RUNTIME_DIR", home.path());
        if way == "shared" {
            command.env("LD_LIBRARY_PATH", prefix.join("lib"));
        }
        assert_eq!(run(&mut command), "0 mistakes\n", "{way}");
        let dynamic = dynamic_section(&program);
        assert_eq!(dynamic.contains(&format!("Shared library: [{SONAME}]")), way == "shared", "{way}");
        assert_eq!(versions_asked_for(&program).is_empty(), way == "static", "{way}");
    }
    let library = prefix.join("lib").join(&real);
    assert!(dynamic_section(&library).contains(&format!("soname: [{SONAME}]")));
    let versioned = |name: String| format!("{name}@@WHORL_0.1");
    assert_eq!(symbols(&library, true), declared().into_iter().map(versioned).collect::<Vec<_>>());
}

/// The functions that the header declares, sorted.
fn declared() -> Vec<String> {
    let header = include_str!("../include/whorl.h");
    let name = |before: &str| {
        let start = before.rfind(|c: char| !c.is_ascii_lowercase() && c != '_').map_or(0, |at| at + 1);
        before[start..].to_owned()
    };
    let code = header.lines().filter(|line| !line.trim_start().starts_with("//"));
    let mut functions: Vec<_> =
        code.filter_map(|line| line.split_once('(')).map(|(before, _)| name(before)).collect();
    functions.retain(|name| name.starts_with("whorl_"));
    functions.sort();
    functions
}

fn dynamic_section(file: &Path) -> String {
    run(Command::new("readelf").args(["-W", "-d"]).arg(file))
}

/// The dynamic functions with their versions, sorted: those that a file defines, or those that it needs.
fn symbols(file: &Path, defined: bool) -> Vec<String> {
    let table = run(Command::new("readelf").args(["-W", "--dyn-syms"]).arg(file));
    let rows = table.lines().map(|row| row.split_whitespace().collect::<Vec<_>>());
    let rows = rows.filter(|row| row.len() >= 8 && row[3] == "FUNC" && (row[6] != "UND") == defined);
    let mut names: Vec<_> = rows.map(|row| row[7].to_owned()).collect();
    names.sort();
    names
}

/// The functions of the library that a program asks the loader for, with their versions.
fn versions_asked_for(program: &Path) -> Vec<String> {
    let mut names = symbols(program, false);
    names.retain(|name| name.starts_with("whorl_"));
    assert!(names.iter().all(|name| name.ends_with("@WHORL_0.1")), "{names:?}");
    names
}

#[test]
fn every_function_of_the_header_has_one_symbol_version() {
    let map = include_str!("../whorl.map").lines().map(str::trim).filter(|line| !line.starts_with('#'));
    let mut listed: Vec<_> = map.filter_map(|line| line.strip_suffix(';')).map(str::to_owned).collect();
    listed.retain(|line| line.starts_with("whorl_"));
    listed.sort();
    assert!(listed.len() > 20, "{listed:?}");
    assert_eq!(listed, declared(), "capi/whorl.map lists what include/whorl.h declares");
}
