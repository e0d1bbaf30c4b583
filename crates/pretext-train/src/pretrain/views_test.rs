//! What a GPU makes of a picture, by one plan from its pixels, against what the loader's threads do: crop,
//! then puzzle.

use candle_core::Device;
use pretext_augment::{Image, Plan, Size};
use pretext_data::Picture;

use super::{plans, poser, views};
use crate::batch::NORMALISE;
use crate::network::PretextNetwork;
use crate::recipe::{Common, PretrainRecipe};
use crate::tasks;

const SIDE: u32 = 32;

/// A picture as the network sees it, by the plain operations.
fn seen(picture: &Image, plan: &Plan) -> Vec<f32> {
    let image = plan.apply(picture.clone());
    assert_eq!(image.size(), Size::square(SIDE));
    let mut numbers = vec![0.0; 3 * (SIDE * SIDE) as usize];
    NORMALISE.to_chw(&image, &mut numbers);
    numbers
}

#[test]
fn one_plan_for_both_is_what_the_loader_does_in_two() {
    for task in tasks::ALL {
        let common =
            Common { encoder: "xresnet18".into(), size: SIDE, seed: 5, ..Common::default() };
        let recipe =
            PretrainRecipe { task: task.name().into(), common, ..PretrainRecipe::default() };
        let network = PretextNetwork::new(&recipe, &Device::Cpu).unwrap();
        let two = poser(plans(&recipe, 3).unwrap());
        let one = views(plans(&recipe, 3).unwrap(), &network);
        for id in 0..24 {
            let size = Size { width: 37 + id as u32 * 3 % 40, height: 45 };
            let pixels: Vec<u8> =
                (0..3 * size.area() as usize).map(|i| (i * (7919 + id) % 251) as u8).collect();
            let image = Image::new(size, pixels.clone()).unwrap();
            let picture = Picture { width: size.width, height: size.height, pixels: pixels.into() };
            let numbers = 3 * (SIDE * SIDE) as usize;
            let mut input = vec![f32::NAN; numbers];
            let mut clean = vec![f32::NAN; if network.restores() { numbers } else { 0 }];
            let class = two(id, picture, [&mut input, &mut clean]);
            let ([puzzle, crop], same) = one(id, size);
            let what = format!("{}, {id}", task.name());
            assert_eq!(class, same, "{what}");
            assert!(seen(&image, &puzzle.unwrap()) == input, "{what}: the puzzle");
            assert_eq!(crop.is_some(), network.restores(), "{what}");
            if let Some(crop) = crop {
                assert!(seen(&image, &crop) == clean, "{what}: the clean picture");
                assert!(input != clean, "{what}: nothing to restore");
            }
        }
    }
}
