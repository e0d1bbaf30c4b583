//! Published recipes by name: the views that methods make of a picture, with the parameters of their
//! papers and code.
//!
//! [`Preset::views`] gives the published sizes, [`Preset::views_at`] any other, at which the smaller
//! views shrink in proportion. Pictures are then normalised with [`Normalise::IMAGENET`] in all of
//! them, except that SwAV's code has a deviation of 0.228 for red.
//!
//! | name | views | crop's share of the area | jitter (p, brightness, contrast, saturation, hue) | grey | blur | solarise |
//! |---|---|---|---|---|---|---|
//! | `imagenet-train` | 224 | 0.08 to 1 | | | | |
//! | `imagenet-eval` | 224 | shorter side to 256, centre | | | | |
//! | `fastai` | 128 | 0.35 to 1 | | | | |
//! | `simclr` | 2 x 224 | 0.08 to 1 | 0.8: 0.8, 0.8, 0.8, 0.2 | 0.2 | 0.5 | |
//! | `moco-v2` | 2 x 224 | 0.2 to 1 | 0.8: 0.4, 0.4, 0.4, 0.1 | 0.2 | 0.5 | |
//! | `byol` | 2 x 224 | 0.08 to 1 | 0.8: 0.4, 0.4, 0.2, 0.1 | 0.2 | 1, 0.1 | 0, 0.2 |
//! | `barlow` | 2 x 224 | 0.08 to 1 | 0.8: 0.4, 0.4, 0.2, 0.1 | 0.2 | 1, 0.1 | 0, 0.2 |
//! | `swav` | 2 x 224, 6 x 96 | 0.14 to 1, 0.05 to 0.14 | 0.8: 0.8, 0.8, 0.8, 0.2 | 0.2 | 0.5 | |
//! | `dino` | 2 x 224, 8 x 96 | 0.4 to 1, 0.05 to 0.4 | 0.8: 0.4, 0.4, 0.2, 0.1 | 0.2 | 1, 0.1, 0.5 | 0, 0.2, 0 |
//! | pretext tasks | 128 | 0.35 to 1 | | | | |
//!
//! All but `imagenet-eval` flip with probability 0.5 and crop with ratios from 3/4 to 4/3. All blurs
//! have standard deviations of 0.1 to 2 px, whatever the size; the kernel has a tenth of the side as
//! taps (23 of 224 px) in `simclr` and `byol`. The others' code calls PIL's `GaussianBlur`, a row of
//! box filters; here it is the Gaussian that these approach, three standard deviations far. What
//! differs besides: all resize by the antialiased bilinear filter, where the code of `dino`, `byol`
//! and `barlow` has a bicubic one.

use crate::{
    ColourJitter, Colourise, Compose, Corruption, CutOut, Error, EvalCrop, GaussianBlur, Greyscale,
    HorizontalFlip, Jigsaw, Probability, RandomGreyBlur, RandomResizedCrop, RandomSolarise, Size,
    Transform, View, Views,
};

#[cfg(doc)]
use crate::Normalise;

/// A published recipe.
#[derive(Clone, Copy)]
#[non_exhaustive]
pub struct Preset {
    /// What it is called by.
    pub name: &'static str,
    /// What it is, in a few words.
    pub about: &'static str,
    /// Where its parameters are published.
    pub source: &'static str,
    /// The side of its views, or of the larger ones, as published; in pixels.
    pub side: u32,
    views: fn(u32) -> Views,
}

impl std::fmt::Debug for Preset {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Preset({})", self.name)
    }
}

impl Preset {
    /// The views, as published.
    pub fn views(&self) -> Views {
        self.views_at(self.side)
    }

    /// The views with another side (0 counts as 1); smaller views shrink or grow in proportion.
    pub fn views_at(&self, side: u32) -> Views {
        (self.views)(side.max(1))
    }
}

/// The preset of a name.
///
/// # Errors
/// If there is none; the message lists all names.
pub fn by_name(name: &str) -> Result<&'static Preset, Error> {
    ALL.iter()
        .find(|preset| preset.name == name)
        .ok_or_else(|| Error::Preset { name: name.to_owned() })
}

/// All presets.
pub const ALL: &[Preset] = &[
    Preset {
        name: "imagenet-train",
        about: "what ImageNet classifiers are trained on",
        source: "Szegedy et al. 2015; torchvision references/classification/presets.py",
        side: 224,
        views: |side| Views::new(vec![view(side, vec![crop(side, 0.08, 1.0), flip()])]),
    },
    Preset {
        name: "imagenet-eval",
        about: "what ImageNet classifiers are scored on: 256 px, its centre of 224 px",
        source: "Krizhevsky et al. 2012; torchvision references/classification/presets.py",
        side: 224,
        views: |side| {
            let resize = scaled(256, side, 224);
            Views::new(vec![view(side, vec![Box::new(EvalCrop::torchvision(resize, side))])])
        },
    },
    Preset {
        name: "fastai",
        about: "what fastai's Imagenette and Image网 recipes train on",
        source: "fastai RandomResizedCrop; imagenette train_imagenette.py, 2019",
        side: 128,
        views: |side| Views::new(vec![view(side, fastai(side))]),
    },
    Preset {
        name: "simclr",
        about: "two views of strong colour",
        source: "Chen et al., \"A Simple Framework for Contrastive Learning of Visual \
                 Representations\", 2020, appendix A",
        side: 224,
        views: |side| {
            let kernel = tenth(side);
            let recipe = Recipe { jitter: [0.8, 0.8, 0.8, 0.2], kernel, ..Recipe::default() };
            Views::new(vec![recipe.view(side), recipe.view(side)])
        },
    },
    Preset {
        name: "moco-v2",
        about: "two views",
        source: "Chen et al., \"Improved Baselines with Momentum Contrastive Learning\", 2020; \
                 facebookresearch/moco main_moco.py",
        side: 224,
        views: |side| {
            let recipe = Recipe {
                scale: (0.2, 1.0),
                jitter: [0.4, 0.4, 0.4, 0.1],
                flips_last: true,
                ..Recipe::default()
            };
            Views::new(vec![recipe.view(side), recipe.view(side)])
        },
    },
    Preset {
        name: "byol",
        about: "two views, one always blurred, one seldom and sometimes solarised",
        source: "Grill et al., \"Bootstrap Your Own Latent\", 2020, table 6",
        side: 224,
        views: |side| asymmetric(side, tenth(side)),
    },
    Preset {
        name: "barlow",
        about: "BYOL's two views",
        source: "Zbontar et al., \"Barlow Twins\", 2021; facebookresearch/barlowtwins main.py",
        side: 224,
        views: |side| asymmetric(side, None),
    },
    Preset {
        name: "swav",
        about: "multi-crop: two large views and six small ones",
        source: "Caron et al., \"Unsupervised Learning of Visual Features by Contrasting Cluster \
                 Assignments\", 2020; facebookresearch/swav main_swav.py",
        side: 224,
        views: |side| {
            let recipe = Recipe { jitter: [0.8, 0.8, 0.8, 0.2], ..Recipe::default() };
            let large = Recipe { scale: (0.14, 1.0), ..recipe };
            let small = Recipe { scale: (0.05, 0.14), ..recipe };
            multi_crop(side, [large, large], small, 6)
        },
    },
    Preset {
        name: "dino",
        about: "multi-crop: BYOL's two views of large parts and eight small ones",
        source: "Caron et al., \"Emerging Properties in Self-Supervised Vision Transformers\", \
                 2021; facebookresearch/dino main_dino.py",
        side: 224,
        views: |side| {
            let recipe = Recipe { jitter: [0.4, 0.4, 0.2, 0.1], ..Recipe::default() };
            let first = Recipe { scale: (0.4, 1.0), blur: 1.0, ..recipe };
            let second = Recipe { blur: 0.1, solarise: 0.2, ..first };
            multi_crop(side, [first, second], Recipe { scale: (0.05, 0.4), ..recipe }, 8)
        },
    },
    Preset {
        name: "grey-blur",
        about: "the puzzle of the home task: several regions blurred and grey",
        source: "Whitaker, \"Self-supervised learning with Image网\", 2020; its parameters: \
                 RandomGreyBlur",
        side: 128,
        views: |side| {
            let sigma = |at_128: f32| at_128 * side as f32 / 128.0;
            let blur = Some(sigma(2.0)..=sigma(6.0));
            puzzle(side, Box::new(RandomGreyBlur { blur, ..RandomGreyBlur::default() }))
        },
    },
    Preset {
        name: "grey",
        about: "several regions grey",
        source: "as grey-blur, without the blur",
        side: 128,
        views: |side| {
            puzzle(side, Box::new(RandomGreyBlur { blur: None, ..RandomGreyBlur::default() }))
        },
    },
    Preset {
        name: "inpaint",
        about: "several regions black",
        source: "Pathak et al., \"Context Encoders\", 2016; rectangles of Varty, 2020",
        side: 128,
        views: |side| puzzle(side, Box::new(CutOut::default())),
    },
    Preset {
        name: "colourise",
        about: "the whole picture grey",
        source: "Zhang et al., \"Colorful Image Colorization\", 2016",
        side: 128,
        views: |side| puzzle(side, Box::new(Colourise)),
    },
    Preset {
        name: "corrupted",
        about: "one patch shuffled, blurred, noised or swapped; labels: Corruption::sample_labelled",
        source: "defaults of Corruption",
        side: 128,
        views: |side| puzzle(side, Box::new(Corruption::default())),
    },
    Preset {
        name: "jigsaw",
        about: "3 x 3 tiles in one of 30 orders; labels: Jigsaw::sample_labelled",
        source: "Noroozi and Favaro, \"Unsupervised Learning of Visual Representations by Solving \
                 Jigsaw Puzzles\", 2016",
        side: 128,
        views: |side| puzzle(side, Box::new(Jigsaw::default())),
    },
];

type Transforms = Vec<Box<dyn Transform>>;

fn view(side: u32, transforms: Transforms) -> View {
    View { transform: Box::new(Compose::new(transforms)), size: Size::square(side) }
}

fn crop(side: u32, least: f32, most: f32) -> Box<dyn Transform> {
    let mut crop = RandomResizedCrop::torchvision(side);
    crop.scale = least..=most;
    Box::new(crop)
}

fn flip() -> Box<dyn Transform> {
    Box::new(HorizontalFlip { p: 0.5 })
}

fn fastai(side: u32) -> Transforms {
    vec![Box::new(RandomResizedCrop::fastai(side)), flip()]
}

fn puzzle(side: u32, puzzle: Box<dyn Transform>) -> Views {
    let mut transforms = fastai(side);
    transforms.push(puzzle);
    Views::new(vec![view(side, transforms)])
}

/// What is `pixels` at a side of `at`, at another side.
fn scaled(pixels: u32, side: u32, at: u32) -> u32 {
    let scaled = (f64::from(pixels) * f64::from(side) / f64::from(at)).round();
    (scaled as u32).max(1)
}

/// A kernel of a tenth of the side, made odd as SimCLR's code does.
fn tenth(side: u32) -> Option<u32> {
    Some(side / 10 / 2 * 2 + 1)
}

/// The parameters of one view of the contrastive methods.
#[derive(Clone, Copy)]
struct Recipe {
    /// The crop's share of the area.
    scale: (f32, f32),
    /// Strengths of brightness, contrast, saturation and hue.
    jitter: [f32; 4],
    /// Probability of the blur.
    blur: f32,
    /// The blur's taps, if it has a number of its own.
    kernel: Option<u32>,
    /// Probability of solarising.
    solarise: f32,
    /// Whether the flip comes after all else.
    flips_last: bool,
}

impl Default for Recipe {
    fn default() -> Self {
        let (scale, jitter) = ((0.08, 1.0), [0.0; 4]);
        Self { scale, jitter, blur: 0.5, kernel: None, solarise: 0.0, flips_last: false }
    }
}

impl Recipe {
    fn view(&self, side: u32) -> View {
        let [brightness, contrast, saturation, hue] = self.jitter;
        let jitter = ColourJitter::new(brightness, contrast, saturation, hue);
        let blur = GaussianBlur { kernel: self.kernel, sigma: 0.1..=2.0 };
        let mut transforms: Transforms = vec![
            crop(side, self.scale.0, self.scale.1),
            Box::new(Probability { p: 0.8, transform: jitter }),
            Box::new(Greyscale { p: 0.2 }),
            Box::new(Probability { p: self.blur, transform: blur }),
        ];
        if self.solarise > 0.0 {
            transforms.push(Box::new(RandomSolarise { threshold: 128, p: self.solarise }));
        }
        transforms.insert(if self.flips_last { transforms.len() } else { 1 }, flip());
        view(side, transforms)
    }
}

/// The two views of BYOL and Barlow Twins.
fn asymmetric(side: u32, kernel: Option<u32>) -> Views {
    let first = Recipe { jitter: [0.4, 0.4, 0.2, 0.1], blur: 1.0, kernel, ..Recipe::default() };
    let second = Recipe { blur: 0.1, solarise: 0.2, ..first };
    Views::new(vec![first.view(side), second.view(side)])
}

/// Two views of a side, and some that are as much smaller as 96 px are than 224.
fn multi_crop(side: u32, large: [Recipe; 2], small: Recipe, count: usize) -> Views {
    let mut views: Vec<View> = large.iter().map(|recipe| recipe.view(side)).collect();
    views.extend((0..count).map(|_| small.view(scaled(96, side, 224))));
    Views::new(views)
}
