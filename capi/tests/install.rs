//! pkg-config finds what `packaging/c` installs, and programs built with its flags work.

mod common;

use common::{SONAME, home, is_there, library, run};
use std::path::Path;
use std::process::Command;

#[test]
fn programs_are_built_with_what_pkg_config_says() {
    for tool in ["cc", "pkg-config", "bash"] {
        if !is_there(tool) {
            return eprintln!("SKIPPED: installing for programs in C: there is no {tool}");
        }
    }
    let home = home();
    let prefix = home.path().join("prefix");
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let libraries = library("libwhorl_c.so").parent().expect("a directory").to_owned();
    let mut install = Command::new(here.join("../packaging/c"));
    run(install.arg(&prefix).env("WHORL_LIBRARIES", libraries).env_remove("DESTDIR"));
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
        if is_there("readelf") {
            let dynamic = |file: &Path| run(Command::new("readelf").arg("-d").arg(file));
            assert!(dynamic(&prefix.join("lib").join(&real)).contains(&format!("soname: [{SONAME}]")));
            let needed = dynamic(&program).contains(&format!("Shared library: [{SONAME}]"));
            assert_eq!(needed, way == "shared", "{way}");
        } else {
            eprintln!("SKIPPED: the library's soname: there is no readelf");
        }
    }
}
