//! Bytes from outside: seeds and a fixed number of random inputs. The functions are those of the fuzz targets
//! (`fuzz/`), so they are also tested without a fuzzer.

use crate::inputs::{arguments, dipc, frames, information};
use clap::CommandFactory;
use std::path::Path;

const RANDOM_INPUTS: u64 = 20_000;
/// Each command line builds the whole parser, which is slow without optimisation.
const COMMAND_LINES: u64 = 1_000;

/// Xorshift: the same seed gives the same numbers on every machine.
struct Random(u64);

impl Random {
    fn new(seed: u64) -> Self {
        Self((seed + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) as usize % bound
    }

    fn byte(&mut self) -> u8 {
        self.below(256) as u8
    }
}

fn seeds(target: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/seeds").join(target);
    let files = std::fs::read_dir(&folder).unwrap_or_else(|why| panic!("{}: {why}", folder.display()));
    let seeds: Vec<_> = files.map(|file| std::fs::read(file.unwrap().path()).unwrap()).collect();
    assert!(!seeds.is_empty(), "no seeds in {}", folder.display());
    seeds
}

/// A seed with a few bytes changed, left out, doubled or cut off.
fn mutated(seed: &[u8], random: &mut Random) -> Vec<u8> {
    let mut bytes = seed.to_vec();
    for _ in 0..=random.below(4) {
        let at = random.below(bytes.len() + 1);
        match random.below(6) {
            0 => bytes.truncate(at),
            1 => bytes.insert(at, random.byte()),
            2 if at < bytes.len() => drop(bytes.remove(at)),
            3 => bytes.extend_from_within(at..),
            _ if at < bytes.len() => bytes[at] = [random.byte(), b'\n', 0, 0xff, b'9'][random.below(5)],
            _ => {}
        }
        bytes.truncate(10_000);
    }
    bytes
}

/// Runs a function over seeds, changed seeds and random bytes. Some must be accepted and some refused, or nothing was
/// tested.
fn feed(target: &str, inputs: u64, run: impl Fn(&[u8]) -> bool) {
    let seeds = seeds(target);
    let mut understood = seeds.iter().filter(|seed| run(seed)).count() as u64;
    for number in 0..inputs {
        let mut random = Random::new(number);
        let bytes = match random.below(4) {
            0 => (0..random.below(200)).map(|_| random.byte()).collect(),
            _ => mutated(&seeds[random.below(seeds.len())], &mut random),
        };
        understood += u64::from(run(&bytes));
    }
    println!("{target}: {} seeds and {inputs} more inputs, {understood} understood", seeds.len());
    assert!((30..inputs - 30).contains(&understood), "{understood} of {inputs} understood");
}

#[test]
fn first_lines_are_answered_as_a_second_reading_of_the_document_says() {
    feed("dipc_line", RANDOM_INPUTS, dipc::line);
}

#[test]
fn conversations_are_answered_as_a_second_reading_of_the_document_says() {
    feed("dipc_session", RANDOM_INPUTS, dipc::session);
}

#[test]
fn frames_mean_the_same_when_they_are_said_again_or_are_refused() {
    feed("frames", RANDOM_INPUTS, frames::run);
}

#[test]
fn information_files_mean_the_same_when_they_are_written_again_or_are_refused() {
    feed("information", RANDOM_INPUTS, information::run);
}

#[test]
fn command_lines_are_understood_or_refused_in_one_line() {
    feed("arguments", COMMAND_LINES, arguments::run);
}

/// Every command and flag, with values that are nearly right.
#[test]
fn command_lines_of_real_words_in_any_order_are_understood_or_refused_in_one_line() {
    let values = [
        "",
        "-",
        "--",
        "0",
        "1",
        "-1",
        "16",
        "1001",
        "4294967296",
        "99999999999999999999",
        "1K",
        "8KiB",
        "1e3",
        "5m",
        "1ms",
        "999d",
        "x",
        ".x",
        "a/b",
        "..",
        "/dev/null",
        "{name}",
        "{peer}{",
        "{unknown}",
        "127.0.0.1",
        "::",
        "on",
        "always",
        "first",
        "now",
        "\u{1b}[2J",
        "\u{202e}x",
        "ä\n",
        "=",
        "--=",
    ];
    let mut words: Vec<Vec<u8>> = values.iter().map(|value| value.as_bytes().to_vec()).collect();
    words.extend([b"\xff\xfe".to_vec(), b"--name=\xc3".to_vec()]);
    let whole = crate::cli::Cli::command();
    let mut commands = Vec::new();
    for command in whole.get_subcommands() {
        commands.push(command.get_name().as_bytes().to_vec());
        words.extend(command.get_subcommands().map(|inner| inner.get_name().as_bytes().to_vec()));
        words.extend(
            command.get_arguments().filter_map(|flag| Some(format!("--{}", flag.get_long()?).into())),
        );
        let short = |flag: &clap::Arg| Some(format!("-{}", flag.get_short()?).into());
        words.extend(command.get_arguments().filter_map(short));
    }
    let mut understood = 0;
    for number in 0..COMMAND_LINES {
        let mut random = Random::new(number);
        let name: &[u8] = [&b"shell"[..], b"/bin/dipc", b"dipcrm", b""][random.below(20).saturating_sub(16)];
        let mut line = vec![name.to_vec(), commands[random.below(commands.len())].clone()];
        for _ in 0..random.below(6) {
            line.push(words[random.below(words.len())].clone());
        }
        understood += u64::from(arguments::run(&line.join(&0)));
    }
    println!("{} words: {understood} of {COMMAND_LINES} lines understood", words.len());
    assert!((10..COMMAND_LINES - 10).contains(&understood), "{understood} of {COMMAND_LINES} understood");
}
