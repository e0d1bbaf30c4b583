//! Rows of forged records: every output marks what breaks a rule of the leaderboard.

use std::fs;
use std::path::Path;

use serde_json::Value;
use sha2::{Digest as _, Sha256};

use crate::{Bench, json};

#[test]
fn broken_rules_are_marked_everywhere() {
    let small = ["--sizes", "32", "--epochs", "2,4", "--init", "random,jigsaw"];
    let random = "finetune-32px-2ep-random-s1";
    let jigsaw = "finetune-32px-2ep-jigsaw-s1";
    let supervised = || {
        serde_json::json!({"kind": "file", "sha256": "a".repeat(64), "pretrained": {
            "task": "classify", "seed": 0, "epochs": 5, "fingerprint": "f", "pretrained_on": ["train"],
            "initial_weights": {"kind": "random", "seed": 0, "sha256": "b".repeat(64)}}})
    };
    type Forge = Box<dyn Fn(&Bench)>;
    fn forge(run: &'static str, change: impl Fn(&mut Value) + 'static) -> Forge {
        Box::new(move |bench| bench.forge(run, &change))
    }
    let cases: Vec<(&str, &str, Forge)> = vec![
        (
            "drawn from the run's seed",
            random,
            forge(random, |record| {
                record["initial_weights"]["seed"] = 7.into();
            }),
        ),
        (
            "drawn from the run's seed",
            random,
            forge(random, |record| {
                record["initial_weights"]["sha256"] = "made up".into();
            }),
        ),
        (
            "different random weights",
            random,
            forge(random, |record| {
                record["initial_weights"]["sha256"] = "c".repeat(64).into();
            }),
        ),
        (
            "does not tell what the initial weights",
            random,
            forge(random, |record| {
                record["initial_weights"] = serde_json::json!({"kind": "random"});
            }),
        ),
        (
            "of the task classify, not of jigsaw",
            jigsaw,
            forge(jigsaw, |record| {
                record["initial_weights"]["pretrained"]["task"] = "classify".into();
            }),
        ),
        (
            "does not say how it came to be",
            jigsaw,
            forge(jigsaw, |record| {
                record["initial_weights"]["pretrained"] = Value::Null;
            }),
        ),
        (
            "pretrained on other pictures",
            jigsaw,
            forge(jigsaw, |record| {
                record["initial_weights"]["pretrained"]["fingerprint"] = "imagenet".into();
            }),
        ),
        (
            "another pretraining than its record",
            jigsaw,
            forge(jigsaw, |record| {
                record["initial_weights"]["pretrained"]["epochs"] = 1000.into();
            }),
        ),
        (
            "trained with labels",
            jigsaw,
            Box::new(move |bench: &Bench| {
                // The lie is told consistently: only the chain's end gives it away.
                for run in ["2ep-jigsaw", "4ep-jigsaw"] {
                    for seed in 0..3 {
                        bench.forge(&format!("finetune-32px-{run}-s{seed}"), |record| {
                            record["initial_weights"]["pretrained"]["initial_weights"] =
                                supervised();
                        });
                    }
                }
                bench.forge("pretrain-32px-2ep-jigsaw-s0", |record| {
                    record["initial_weights"] = supervised();
                });
            }),
        ),
        (
            "not the encoder that the pretraining wrote",
            jigsaw,
            forge(jigsaw, |record| {
                record["initial_weights"]["sha256"] = "d".repeat(64).into();
            }),
        ),
        (
            "names other initial weights than the record",
            jigsaw,
            forge(jigsaw, |record| record["recipe"]["init"] = "sha256:other".into()),
        ),
        (
            "an earlier version, which does not tell the SHA-256",
            jigsaw,
            forge("pretrain-32px-2ep-jigsaw-s0", |record| {
                record.as_object_mut().unwrap().remove("encoder_sha256");
            }),
        ),
        (
            "scored at 64 px, above the training size",
            random,
            forge(random, |record| {
                record["result"]["size"] = 64.into();
            }),
        ),
        (
            "does not tell the size",
            random,
            forge(random, |record| {
                record["result"]["size"] = Value::Null;
            }),
        ),
        (
            "test-time augmentation: 10 views",
            jigsaw,
            forge(jigsaw, |record| {
                record["result"]["views"] = 10.into();
            }),
        ),
        (
            "how many views",
            jigsaw,
            forge(jigsaw, |record| {
                record["result"]["views"] = Value::Null;
            }),
        ),
        (
            "number of right answers",
            jigsaw,
            forge(jigsaw, |record| {
                record["result"]["accuracy"] = 0.99.into();
            }),
        ),
    ];
    let bench = Bench::new();
    bench.works(&small);
    let honest = bench.path("honest");
    copy(&bench.path("out"), &honest);
    for (words, run, forge) in cases {
        fs::remove_dir_all(bench.path("out")).unwrap();
        copy(&honest, &bench.path("out"));
        forge(&bench);
        let printed = bench.works(&small);
        let init = if run == random { "random" } else { "jigsaw" };
        assert!(printed.contains(&format!("| {init} †1")), "{words}: {printed}");
        let note = printed.lines().find(|line| line.starts_with("†1 breaks a rule"));
        assert!(note.is_some_and(|note| note.contains(words)), "{words}: {printed}");
        let read = |name: &str| fs::read_to_string(bench.path("out").join(name)).unwrap();
        assert!(read("leaderboard.csv").contains(words), "{words}");
        let board = json(&bench.path("out/leaderboard.json"));
        let row = usize::from(init == "jigsaw");
        assert!(board["rows"][row]["broken_rules"][0].as_str().unwrap().contains(words));
        let page = read("leaderboard.html");
        assert!(page.contains("<tr class=\"broken\">") && page.contains("href=\"#rule-1\""));
        assert!(page.contains(words), "{words}");
        // What breaks a rule is not offered to the public leaderboard.
        assert!(!page.contains(&format!("|32|2|[pretext, {init}]")), "{words}");
        assert!(page.contains("left out for a broken rule"), "{words}");
    }
}

#[test]
fn an_encoder_is_what_its_record_says() {
    let small = ["--sizes", "32", "--epochs", "2", "--init", "random,jigsaw"];
    let report = [&small[..], &["--report"]].concat();
    let bench = Bench::new();
    let pretraining = "pretrain-32px-2ep-jigsaw-s0";
    bench.works(&[&small[..], &["--launcher", "print"]].concat());
    bench.works(&["--cell", "0"]);
    // Other weights under the same story, before anything begins with them.
    let encoder = bench.run_folder(pretraining).join("encoder.safetensors");
    let honest = fs::read_to_string(&encoder).unwrap();
    fs::write(&encoder, honest.clone() + "other numbers\n").unwrap();
    let output = bench.run(&small, "none");
    let errors = String::from_utf8(output.stderr).unwrap();
    assert!(
        errors.contains("SHA-256 of its encoder") && output.status.code() == Some(2),
        "{errors}"
    );
    // Nor does a cell begin with them.
    let (line, code) = bench.refused(&["--cell", "4"]);
    assert!(line.contains("SHA-256 of its encoder") && line.contains(pretraining), "{line}");
    assert_eq!((code, bench.log().len()), (2, 1), "{line}");
    // But where the record was forged as well.
    let record = fs::read(bench.record(pretraining)).unwrap();
    let swapped = fs::read(&encoder).unwrap();
    let sha256: String = Sha256::digest(&swapped).iter().map(|b| format!("{b:02x}")).collect();
    bench.forge(pretraining, |record| record["encoder_sha256"] = sha256.clone().into());
    for index in 1..7 {
        bench.works(&["--cell", &index.to_string()]);
    }
    fs::write(bench.record(pretraining), record).unwrap();
    let swapped = "| jigsaw †1";
    let note = |printed: &str| {
        let note = printed.lines().find(|line| line.starts_with("†1 ")).unwrap_or_default();
        note.to_owned()
    };
    let printed = bench.works(&report);
    assert!(printed.contains(swapped), "{printed}");
    assert!(note(&printed).contains("its record has another SHA-256"), "{printed}");
    // Put back, it is still not what the runs began with.
    fs::write(&encoder, honest).unwrap();
    let printed = bench.works(&report);
    assert!(note(&printed).contains("its record has another SHA-256"), "{printed}");

    let bench = Bench::new();
    bench.works(&small);
    assert!(!bench.works(&report).contains('†'));
    // Swapped after the runs.
    let encoder = bench.run_folder(pretraining).join("encoder.safetensors");
    fs::write(&encoder, "jigsaw 0 2\nother numbers\n").unwrap();
    let printed = bench.works(&report);
    assert!(note(&printed).contains("was changed after its record"), "{printed}");
    // Without the pretraining's record, the runs have only their own word.
    fs::remove_file(bench.record(pretraining)).unwrap();
    let output = bench.run(&report, "none");
    let printed = String::from_utf8(output.stdout).unwrap();
    assert!(note(&printed).contains("no record of the pretraining"), "{printed}");
    assert_eq!(output.status.code(), Some(1));
}

/// Copies a folder and all below it.
fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap().flatten() {
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}
