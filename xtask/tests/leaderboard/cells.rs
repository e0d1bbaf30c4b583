//! Cells, recipes and launchers: nothing is lost, done twice or counted twice.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use sha2::{Digest as _, Sha256};

use crate::{Bench, json};

const SMALL: [&str; 6] = ["--sizes", "32", "--epochs", "2", "--init", "random,jigsaw"];

impl Bench {
    /// What went wrong, in one line, and the exit code.
    #[track_caller]
    pub(crate) fn refused(&self, args: &[&str]) -> (String, i32) {
        let output = self.run(args, "none");
        let errors = String::from_utf8(output.stderr).unwrap();
        let line = errors.lines().last().unwrap_or_default().to_owned();
        assert!(!output.status.success() && line.starts_with("error: "), "{errors}");
        (line, output.status.code().unwrap())
    }
}

#[test]
fn a_directory_is_named_after_its_recipe() {
    let bench = Bench::new();
    bench.works(&SMALL);
    let cells = json(&bench.path("out/cells.json"));
    let cells = cells["cells"].as_array().unwrap();
    assert_eq!(cells.len(), 1 + 3 + 3);
    for (i, cell) in cells.iter().enumerate() {
        assert_eq!(cell["index"], i);
        let name = cell["name"].as_str().unwrap();
        let recipe = fs::read(bench.path("out").join(name).join("recipe.toml")).unwrap();
        let hash: String = Sha256::digest(&recipe).iter().map(|b| format!("{b:02x}")).collect();
        assert!(name.ends_with(&hash[..8]), "{name} {hash}");
        let recipe: toml::Table = toml::from_str(std::str::from_utf8(&recipe).unwrap()).unwrap();
        assert_eq!(recipe["fingerprint"].as_str(), Some("f"));
        assert_eq!(recipe["code"]["commit"].as_str(), Some("c0ffee"));
    }
    let frozen = fs::read(bench.path("out/cells.json")).unwrap();
    // More runs are appended; another encoder has other directories; indices stay.
    bench.works(&[&SMALL[..], &["--runs", "4"]].concat());
    bench.works(&[&SMALL[..], &["--encoder", "resnet18"]].concat());
    let grown = json(&bench.path("out/cells.json"));
    assert_eq!(grown["cells"].as_array().unwrap().len(), 7 + 2 + 7);
    assert_eq!(grown["cells"].as_array().unwrap()[..7], cells[..]);
    bench.works(&SMALL);
    assert_eq!(json(&bench.path("out/cells.json")), grown);
    // A lost list is made again.
    fs::remove_file(bench.path("out/cells.json")).unwrap();
    let done = bench.log().len();
    bench.works(&SMALL);
    assert_eq!(
        (fs::read(bench.path("out/cells.json")).unwrap(), bench.log().len()),
        (frozen, done)
    );
}

/// The binary goes away while runs of it are under way: they are asked to stop, and waited for.
#[test]
fn runs_end_with_their_leaderboard() {
    let bench = Bench::new();
    let script = fs::read_to_string(bench.path("pretext")).unwrap();
    let slow = r#"
if [ "$seed" = 0 ]; then sleep 1; mv "$0" "$0.gone"; fi
if [ "$seed" = 1 ]; then
  trap 'sleep 1; echo stopped >> "$LOG"; exit 130' TERM
  i=0; while [ $i -lt 100 ]; do sleep 0.1; i=$((i + 1)); done
fi
mkdir -p"#;
    let script = script.replacen("\nmkdir -p", slow, 1);
    fs::write(bench.path("pretext"), script).unwrap();
    let args = ["--sizes", "32", "--epochs", "2", "--init", "random", "--jobs", "2"];
    let (line, code) = bench.refused(&args);
    assert!(line.contains("cannot run") && code == 1, "{line}");
    assert!(bench.log().contains(&"stopped".to_owned()), "{:?}", bench.log());
}

#[test]
fn a_list_that_contradicts_itself_is_refused() {
    let bench = Bench::new();
    bench.works(&SMALL);
    let path = bench.path("out/cells.json");
    let sound = json(&path);
    for damage in ["index", "name", "after", "all"] {
        let mut list = sound.clone();
        match damage {
            "all" => list = "nothing".into(),
            "name" => list["cells"][3]["name"] = "../../elsewhere".into(),
            field => list["cells"][3][field] = 5.into(),
        }
        fs::write(&path, list.to_string()).unwrap();
        for args in [&SMALL[..], &["--watch"], &["--cell", "0"]] {
            let (line, code) = bench.refused(args);
            assert!(line.contains("cells.json") && line.contains("delete it"), "{line}");
            assert_eq!(code, 2, "{line}");
        }
    }
}

#[test]
fn a_recipe_comes_from_a_file() {
    let bench = Bench::new();
    let file = bench.path("mine.toml");
    let file = file.to_str().unwrap();
    let text = "sizes = [32]\nepochs = [2, 4]\ninit = [\"random\"]\nruns = [1]\nbatch-size = 16\n\
                [finetune]\nlr = 0.004\nmixup = 1\nself-attention = true\n";
    fs::write(file, text).unwrap();
    bench.works(&["--recipe", file, "--epochs", "2"]);
    let [run] = &bench.log()[..] else { panic!("{:?}", bench.log()) };
    for words in ["--batch-size 16", "--lr 0.004", "--mixup 1", "--self-attention", "--epochs 2"] {
        assert!(run.contains(words), "{words}: {run}");
    }
    // What a leaderboard leaves says the same again.
    let kept = bench.path("out/recipe.toml");
    bench.works(&["--recipe", kept.to_str().unwrap()]);
    assert_eq!(bench.log().len(), 1);

    let table = fs::read(bench.path("out/leaderboard.md")).unwrap();
    for (text, words) in [
        ("sizes = []\n", &["mine.toml: sizes: the list is empty"][..]),
        ("epochs = []\nruns = []\n", &["mine.toml: epochs: the list is empty"]),
        ("init = []\n", &["mine.toml: init: the list is empty"]),
        ("runs = []\n", &["--runs names 0 numbers"]),
        ("epochs = [2, 4, 2]\n", &["mine.toml: epochs: 2 is named twice"]),
        (
            "init = [\"random\", \"jigsaw\", \"jigsaw\"]\n",
            &["mine.toml: init: \"jigsaw\" is named twice"],
        ),
        ("sizes = [32]\nepoch = [5]\n", &["mine.toml, line 2", "epoch", "`epochs`"]),
        ("sizes = \"32\"", &["mine.toml, line 1", "sizes = \"32\"", "sequence"]),
        ("sizes = [32", &["mine.toml, line 1"]),
        ("[finetune]\nsigma = \"1..2\"\n", &["mine.toml: [finetune] sigma is unknown", "mixup"]),
        ("[pretrain]\nlr = [1]\n", &["mine.toml: [pretrain] lr = [1]"]),
        ("[finetune]\noptimiser = \"magic\"\n", &["mine.toml, [finetune]", "magic"]),
    ] {
        fs::write(file, text).unwrap();
        let (line, code) = bench.refused(&["--recipe", file]);
        for word in words {
            assert!(line.contains(word), "{word}: {line}");
        }
        assert_eq!(code, 2, "{line}");
    }
    assert_eq!(fs::read(bench.path("out/leaderboard.md")).unwrap(), table);
    let (line, code) = bench.refused(&["--recipe", "nowhere.toml"]);
    assert!(line.contains("nowhere.toml") && code == 2, "{line}");
}

#[test]
fn a_cell_runs_by_its_index() {
    let bench = Bench::new();
    let list = bench.works(&[&SMALL[..], &["--launcher", "print"]].concat());
    assert!(bench.log().is_empty());
    let commands: Vec<&str> = list.lines().filter(|line| !line.starts_with('#')).collect();
    assert_eq!(commands.len(), 7 + 1);
    let (line, code) = bench.refused(&["--cell", "4"]);
    assert!(line.contains("begins with cell 0") && code == 75, "{code} {line}");
    let (line, code) = bench.refused(&["--cell", "7"]);
    assert!(line.contains("cells 0 to 6") && code == 2, "{code} {line}");
    // The list is a script: pretraining first, the table last.
    let output = Command::new("sh")
        .args(["-e", "-c", &list])
        .env("LOG", bench.path("log"))
        .env("FAIL", "none")
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(String::from_utf8(output.stdout).unwrap().contains("| jigsaw"));
    assert_eq!(bench.log().len(), 7 + 1);
    bench.works(&["--cell", "4"]);
    assert_eq!(bench.log().len(), 7 + 1);
}

#[test]
fn a_report_says_what_is_missing() {
    let bench = Bench::new();
    bench.run(&SMALL, "2");
    let output = bench.run(&[&SMALL[..], &["--report"]].concat(), "none");
    let errors = String::from_utf8(output.stderr).unwrap();
    assert!(
        errors.contains("2 of 7 cells are missing: 3 (finetune-32px-2ep-random-s2"),
        "{errors}"
    );
    assert!(String::from_utf8(output.stdout).unwrap().contains("| 30.50 ± 0.71"));
    assert_eq!(output.status.code(), Some(1));
}

#[test]
fn runs_go_on_side_by_side_and_a_watcher_sees_them() {
    let bench = Bench::new();
    let (line, code) = bench.refused(&["--watch"]);
    assert!(line.contains("holds no leaderboard") && code == 2, "{code} {line}");
    let args = [&SMALL[..], &["--launcher", "print"]].concat();
    bench.works(&args);
    let watched = thread::scope(|scope| {
        let watching = scope.spawn(|| bench.works(&["--watch"]));
        thread::sleep(Duration::from_millis(500));
        bench.works(&[&SMALL[..], &["--jobs", "3"]].concat());
        watching.join().unwrap()
    });
    assert!(watched.contains("0 of 7 cells done") && watched.contains("  waits"), "{watched}");
    let last = watched.lines().last().unwrap();
    assert!(last.starts_with("7 of 7 cells done; 32px-2ep-random 31.00 % (3)"), "{last}");
    assert_eq!(bench.log().len(), 7 + 1);
    let order = bench.log().iter().position(|run| run.starts_with("pretrain")).unwrap();
    let first = bench.log().iter().position(|run| run.contains("encoder.safetensors")).unwrap();
    assert!(order < first, "an encoder was used before it was there");
}

#[test]
fn a_reader_that_closed_the_pipe_stops_the_runs_and_leaves_none_behind() {
    let bench = Bench::new();
    for jobs in ["1", "2"] {
        let done = bench.log().len();
        let mut command = bench.command(&SMALL, "none");
        command.args(["--jobs", jobs]).env("SLOW", "0.3");
        let mut running = command.stderr(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
        let mut first = String::new();
        BufReader::new(running.stderr.take().unwrap()).read_line(&mut first).unwrap();
        assert!(first.starts_with("[1/7] pretrain") || jobs == "2", "{first}");
        assert_eq!(running.wait().unwrap().code(), Some(130));
        // What was under way when it noticed; it waited for that.
        let begun = bench.log().len();
        assert!(begun - done < 4, "{jobs}: {:?}", bench.log());
        thread::sleep(Duration::from_millis(500));
        assert_eq!(bench.log().len(), begun);
    }
    bench.works(&SMALL);
    // A table's reader has seen enough: the files are written, and that is all.
    for (closed, code) in [("stdout", 0), ("stderr", 2)] {
        let args = if closed == "stdout" { &["--report"][..] } else { &["--epochs", "0"] };
        let _ = fs::remove_file(bench.path("out/leaderboard.html"));
        let mut command = bench.command(&[&SMALL[..], args].concat(), "none");
        // An end of a pipe whose other end is closed before anything is written.
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let output = if closed == "stdout" {
            command.stdout(writer).stderr(Stdio::piped()).spawn().unwrap().wait_with_output()
        } else {
            command.stderr(writer).stdout(Stdio::piped()).spawn().unwrap().wait_with_output()
        };
        let output = output.unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.code() == Some(code) && said.is_empty(), "{closed}: {said}");
        assert_eq!(bench.path("out/leaderboard.html").exists(), closed == "stdout");
    }
    // What cannot be written for another reason is an error.
    if let Ok(full) = fs::File::options().write(true).open("/dev/full") {
        let mut command = bench.command(&[&SMALL[..], &["--report"]].concat(), "none");
        let output = command.stdout(full).stderr(Stdio::piped()).spawn().unwrap();
        let output = output.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(said.contains("standard output") && output.status.code() == Some(1), "{said}");
    }
}

#[test]
fn a_folder_that_cannot_be_written_to_is_named() {
    let bench = Bench::new();
    let output = Command::new(env!("CARGO_BIN_EXE_xtask"))
        .args(["leaderboard", "--out", "/proc/nowhere", "--pretext"])
        .arg(bench.path("pretext"))
        .output()
        .unwrap();
    let errors = String::from_utf8(output.stderr).unwrap();
    assert!(errors.contains("/proc/nowhere") && errors.contains("--out"), "{errors}");
    assert_eq!(errors.trim_end().lines().count(), 1, "{errors}");
    assert_eq!(output.status.code(), Some(2), "{errors}");
}
