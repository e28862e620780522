//! Generated sound files: a short melody for each title.

/// Samples per second.
const RATE: u32 = 22_050;
/// Samples per note: a fifth of a second.
const NOTE: u32 = RATE / 5;
const NOTES: u32 = 18;
/// Half-tones of the pentatonic scale: they sound like a melody in any order.
const SCALE: [i32; 8] = [0, 2, 4, 7, 9, 12, 14, 16];

/// Builds a WAV file (16 bits, mono, 3.6 s) whose melody follows from the title.
pub(crate) fn wav(title: &str) -> Vec<u8> {
    let mut dice = hash(title.as_bytes());
    let key = half_tones(220.0, (dice % 12) as i32);
    let mut samples = Vec::new();
    for note in 0..NOTES {
        dice = hash(&dice.to_le_bytes());
        // The last note is the root of the scale.
        let step = if note + 1 == NOTES { 0 } else { SCALE[(dice % 8) as usize] };
        samples.extend(tone(half_tones(key, step)));
    }
    with_header(&samples)
}

fn half_tones(frequency: f64, up: i32) -> f64 {
    frequency * 2_f64.powf(f64::from(up) / 12.0)
}

/// A single note: a plucked string with two overtones.
fn tone(frequency: f64) -> impl Iterator<Item = i16> {
    (0..NOTE).map(move |sample| {
        let time = f64::from(sample) / f64::from(RATE);
        let wave = |overtone: f64| (time * frequency * overtone * std::f64::consts::TAU).sin();
        let attack = (time / 0.01).min(1.0);
        // Fades to silence at the end, so that notes join without a click.
        let decay = (-6.0 * time).exp() * (1.0 - f64::from(sample) / f64::from(NOTE));
        let level = (wave(1.0) + 0.4 * wave(2.0) + 0.2 * wave(3.0)) / 1.6 * attack * decay;
        // Between -1 and 1, times less than `i16::MAX`.
        (level * 24_000.0) as i16
    })
}

fn with_header(samples: &[i16]) -> Vec<u8> {
    let length = u32::try_from(samples.len() * 2).unwrap_or(u32::MAX);
    let mut file = Vec::with_capacity(samples.len() * 2 + 44);
    file.extend(b"RIFF");
    file.extend((36 + length).to_le_bytes());
    file.extend(b"WAVEfmt ");
    file.extend(16_u32.to_le_bytes());
    file.extend(1_u16.to_le_bytes()); // PCM
    file.extend(1_u16.to_le_bytes()); // channels
    file.extend(RATE.to_le_bytes());
    file.extend((RATE * 2).to_le_bytes()); // bytes per second
    file.extend(2_u16.to_le_bytes()); // bytes per sample
    file.extend(16_u16.to_le_bytes()); // bits per sample
    file.extend(b"data");
    file.extend(length.to_le_bytes());
    file.extend(samples.iter().flat_map(|sample| sample.to_le_bytes()));
    file
}

/// FNV-1a with an additional mixing step for its bits: the same on every machine and in every version.
pub(crate) fn hash(bytes: &[u8]) -> u64 {
    let fnv = bytes
        .iter()
        .fold(0xcbf2_9ce4_8422_2325, |hash: u64, &byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    (fnv ^ (fnv >> 32)).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_title_has_its_own_melody_and_it_can_be_heard() {
        let (file, other) = (wav("玉盘"), wav("Libertus"));
        assert_ne!(file, other);
        assert_eq!(file, wav("玉盘"));
        assert_eq!(file.len(), 44 + (NOTE * NOTES * 2) as usize);
        assert_eq!(&file[40..44], (NOTE * NOTES * 2).to_le_bytes());
        let loudest = file[44..].chunks(2).map(|s| i16::from_le_bytes([s[0], s[1]]).unsigned_abs()).max();
        assert!(loudest.is_some_and(|loudest| loudest > 8_000), "{loudest:?}");
    }
}
