//! Lists every pretext task and poses each to one small picture.
//!
//! `cargo run -p pretext-train --example tasks`

use pretext_augment::{Image, Size};
use pretext_train::streams::{Purpose, stream};
use pretext_train::tasks::{ALL, Goal, Options};

fn main() {
    let size = Size { width: 32, height: 32 };
    let stripes = (0..32 * 32).flat_map(|i| [(i % 32 * 8) as u8, 128, 255 - (i / 32 * 8) as u8]);
    let clean = Image::new(size, stripes.collect()).expect("three bytes a pixel");
    let options = Options::default();
    for task in ALL {
        let pose = task.poser(&options).expect("the default options suit every task");
        let puzzle = pose(size, &mut stream(0, 0, 0, Purpose::Pose));
        let input = puzzle.plan.apply(clean.clone());
        let pairs = clean.pixels().iter().zip(input.pixels());
        let changed = pairs.filter(|(before, after)| before != after).count();
        let answer = match task.goal(&options) {
            Goal::Restore => "the clean picture".to_owned(),
            Goal::Classify(classes) => format!("class {} of {classes}", puzzle.class),
        };
        #[expect(clippy::print_stdout, reason = "this is what the example is for")]
        {
            println!("{:10}  {}", task.name(), task.about());
            println!("{:10}  {changed} of {} values changed; answer: {answer}", "", 32 * 32 * 3);
        }
    }
}
