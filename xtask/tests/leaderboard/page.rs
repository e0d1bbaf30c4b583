//! The page, and how a browser shows it.

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::{Bench, json};

#[test]
fn the_page_stands_alone() {
    let bench = Bench::new();
    bench.works(&["--sizes", "32", "--epochs", "2", "--include-val-pixels"]);
    let page = fs::read_to_string(bench.path("out/leaderboard.html")).unwrap();
    for part in [
        "42.00 ± 2.00",
        "+8.52 to +13.48",
        "data:image/png;base64,cG5n",
        "--task grey-blur",
        "the recipe in one line",
        "git checkout c0ffee",
        "|32|2|[pretext, grey-blur](https://github.com/pretext-rs/pretext/tree/c0ffee)|42.00%|3, mean|",
        "prefers-color-scheme: dark",
    ] {
        assert!(page.contains(part), "{part}");
    }
    // What needs a network or a script would stand in one of these.
    for part in ["<script", "<link", "@import", "url(", "src=\"http", "href=\"http"] {
        assert!(!page.contains(part), "{part}");
    }
    let count = |part: &str| page.matches(part).count();
    // Two curves of accuracy and loss, two of pretraining, and the gains.
    assert_eq!(count("<svg") - count("class=\"key\""), 5);
    assert_eq!(count("role=\"img\" aria-label="), 5, "a chart without words");
    assert_eq!(count("<img"), count("<img alt=\"Pictures of the pretext task"));
    assert_eq!(count("<th scope=\"col\">"), 9);
    assert_eq!(count("<th scope=\"row\">"), 3);
    assert_eq!((count("<h1"), count("<main"), count("class=\"skip\"")), (1, 1, 1));
    for target in page.split("href=\"#").skip(1).filter_map(|rest| rest.split('"').next()) {
        assert!(page.contains(&format!("id=\"{target}\"")), "nothing is called {target}");
    }
}

/// A browser of Chromium's family, if one is installed.
fn browser() -> Option<PathBuf> {
    let names = ["chromium", "chromium-browser", "google-chrome"];
    let folders: Vec<PathBuf> =
        std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default()).collect();
    let places = names.iter().flat_map(|name| folders.iter().map(move |folder| folder.join(name)));
    places.into_iter().find(|place| place.is_file())
}

/// What the browser makes of a page, without a network.
fn browse(browser: &Path, scratch: &Path, args: &[&str], page: &Path) -> Vec<u8> {
    let output = Command::new(browser)
        .args(["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"])
        .args(["--force-device-scale-factor=1"])
        .args(["--proxy-server=127.0.0.1:9", "--disable-dev-shm-usage"])
        .arg(format!("--user-data-dir={}", scratch.display()))
        .args(args)
        .arg(format!("file://{}", page.display()))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

/// A picture's pixels as `[red, green, blue]`, row by row, and its width.
fn pixels(png: &Path) -> (Vec<[u8; 3]>, usize) {
    let decoder = png::Decoder::new(std::io::BufReader::new(fs::File::open(png).unwrap()));
    let mut reader = decoder.read_info().unwrap();
    let mut bytes = vec![0; reader.output_buffer_size().unwrap()];
    let info = reader.next_frame(&mut bytes).unwrap();
    let channels = info.color_type.samples();
    let pixels = bytes[..info.buffer_size()].chunks(channels);
    (pixels.map(|pixel| [pixel[0], pixel[1], pixel[2]]).collect(), info.width as usize)
}

/// Runs where a browser is installed; `PRETEXT_SCREENSHOTS` names a folder to keep the pictures in.
#[test]
fn a_browser_shows_the_page_light_and_dark() {
    let Some(browser) = browser() else { return };
    let bench = Bench::new();
    bench.works(&["--sizes", "32", "--epochs", "4,8", "--runs", "3,1"]);
    // A real picture in the place of the stand-in's.
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/grey-blur.png");
    for task in ["grey-blur", "inpaint"] {
        let folder = bench.run_folder(&format!("pretrain-32px-2ep-{task}-s0"));
        fs::copy(&example, folder.join("show.png")).unwrap();
    }
    // A row that breaks a rule is part of the picture.
    bench.forge("finetune-32px-8ep-inpaint-s0", |record: &mut Value| {
        record["result"]["views"] = 10.into();
    });
    bench.works(&["--sizes", "32", "--epochs", "4,8", "--runs", "3,1"]);
    let page = bench.path("out/leaderboard.html");
    let rows = json(&bench.path("out/leaderboard.json"))["rows"].as_array().unwrap().len();
    let html = fs::read_to_string(&page).unwrap();
    assert!(html.contains("inpaint, 32 px, 8 ep. †<"), "the chart of gains marks it too");
    let dom = browse(&browser, &bench.path("profile"), &["--dump-dom"], &page);
    let dom = String::from_utf8(dom).unwrap();
    // The parser found the elements that were meant, in the places that were meant.
    assert_eq!(dom.matches("<tr").count(), 1 + rows);
    assert_eq!(dom.matches("<details>").count(), rows);

    // Chromium's numbers for the schemes, and what pages of either kind have for paper and ink.
    for (name, scheme, paper, series) in [
        ("light", 1, [0xfc, 0xfc, 0xfa], [0x00, 0x72, 0xb2]),
        ("dark", 0, [0x15, 0x16, 0x1a], [0x58, 0xb3, 0xec]),
    ] {
        let picture = bench.path(&format!("{name}.png"));
        let args = [
            format!("--blink-settings=preferredColorScheme={scheme}"),
            format!("--screenshot={}", picture.display()),
            "--window-size=1200,3000".into(),
        ];
        browse(&browser, &bench.path("profile"), &args.each_ref().map(String::as_str), &page);
        let (pixels, width) = pixels(&picture);
        assert_eq!(width, 1200, "{name}");
        assert_eq!(pixels[0], paper, "{name}: the paper");
        let lines = pixels.iter().filter(|pixel| **pixel == series).count();
        assert!(lines > 200, "{name}: {lines} pixels of the first series' colour");
        let colours = pixels.iter().collect::<HashSet<_>>().len();
        assert!(colours > 500, "{name}: {colours} colours are no page with pictures");
        if let Some(folder) = std::env::var_os("PRETEXT_SCREENSHOTS") {
            fs::copy(&picture, Path::new(&folder).join(format!("{name}.png"))).unwrap();
        }
    }
}

#[test]
fn mistakes_are_told_and_shown() {
    let bench = Bench::new();
    let small = ["--sizes", "32", "--epochs", "2", "--init", "random,jigsaw"];
    bench.works(&small);
    let page = || fs::read_to_string(bench.path("out/leaderboard.html")).unwrap();
    assert!(!page().contains("What is taken for what"), "records without matrices tell nothing");
    for (seed, wrong) in [(0, 5), (2, 7)] {
        bench.forge(&format!("finetune-32px-2ep-jigsaw-s{seed}"), |record| {
            record["result"]["per_class"] = serde_json::json!([
                {"class": "cat", "answers": {"cat": 20 - wrong, "d<g": wrong}},
                {"class": "fox", "answers": {"fox": 20}},
            ]);
        });
    }
    // The first run made no mistakes that it noted: the next one stands for the row.
    bench.forge("finetune-32px-2ep-jigsaw-s2", |record| {
        record["result"]["mistakes"] = serde_json::json!([
            {"picture": "val/cat/1.jpg", "index": 3, "class": "cat", "answer": "d<g", "probability": 0.97},
        ]);
    });
    bench.works(&small);
    let page = page();
    for part in [
        "<summary>jigsaw, 32 px, 2 epochs</summary>\n<div class=\"wide\" role=\"region\" \
         aria-label=\"Confusion matrix of jigsaw",
        // Both runs together: 28 of 40 cats, 12 taken for something that is no row.
        "<th scope=\"row\">cat</th><td class=\"right\" style=\"--share: 70%\">28</td>\
         <td style=\"--share: 0%\"></td><td style=\"--share: 30%\">12</td></tr>",
        "run of seed 2 was surest",
        "aria-label=\"val/cat/1.jpg\"",
        "<b>cat</b> taken for d&lt;g (97 %)",
        "href=\"data:image/png;base64,cG5n\"",
    ] {
        assert!(page.contains(part), "{part}");
    }
    let drawn: Vec<_> = bench.log().into_iter().filter(|run| run.contains("--mistakes")).collect();
    let [drawn] = &drawn[..] else { panic!("{drawn:?}") };
    assert!(drawn.starts_with("show ") && drawn.contains("finetune-32px-2ep-jigsaw-s2"), "{drawn}");
    let rows = &json(&bench.path("out/leaderboard.json"))["rows"];
    assert_eq!(rows[1]["confusions"]["cat"]["d<g"], 12);
    assert_eq!(rows[0]["confusions"], serde_json::json!({}));
}
