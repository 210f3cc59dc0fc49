"""Healthy programs: nothing is planted, and no single change of `verify.menu` gains.

Among them are hard tasks with honestly mediocre accuracy, few rows, classes of unequal
size that are learned all the same, large networks that do no harm, recipes that are
not told in full, and every customary optimiser.
"""

from dataclasses import replace

from benchmarks.faults.cases.bases import half_of_data
from benchmarks.faults.program import Case, Sketch


def _tables() -> dict[str, Sketch]:
    plain = {
        name: Sketch(data=name, widths=(64,), epochs=epochs, lr=lr)
        for name, epochs, lr in (
            ("digit_table", 30, 3e-3),
            ("wine", 40, 3e-3),
            ("satimage", 30, 3e-3),
            ("segment", 50, 5e-3),
            ("spambase", 12, 2e-3),
            ("twonorm", 10, 1e-3),
            ("german", 6, 2e-3),
            ("page_blocks", 40, 5e-3),
            ("breast_cancer", 30, 3e-3),
            ("iris", 60, 1e-2),
            ("penbased", 40, 5e-3),
            ("pima", 10, 3e-3),
            ("vehicle", 60, 5e-3),
            ("texture", 30, 3e-3),
            ("magic", 25, 3e-3),
            ("adult", 6, 2e-3),
        )
    }
    other = {
        "vowel_two_layers": Sketch(data="vowel", widths=(96, 96), epochs=60),
        "letter_two_layers": Sketch(
            data="letter", rows=4000, widths=(128, 128), epochs=30
        ),
        "phoneme_two_layers": Sketch(data="phoneme", widths=(96, 96), epochs=50),
        "ring_two_layers": Sketch(data="ring", widths=(64, 64), epochs=15),
        "ionosphere_small": Sketch(data="ionosphere", widths=(32,), epochs=40),
        "sonar_small": Sketch(data="sonar", widths=(48,), epochs=60),
        "satimage_sgd_momentum": Sketch(
            data="satimage", optimizer="sgd", lr=0.05, momentum=0.9, epochs=30
        ),
        "segment_rmsprop": Sketch(data="segment", optimizer="rmsprop", epochs=40),
        "penbased_adamw": Sketch(
            data="penbased", optimizer="adamw", weight_decay=1e-2, epochs=40, lr=5e-3
        ),
        "texture_nadam": Sketch(data="texture", optimizer="nadam", epochs=30),
        "vehicle_norm_dropout": Sketch(
            data="vehicle", widths=(128,), norm="batch", dropout=0.2, epochs=60
        ),
        "digit_table_norm_traced": Sketch(
            data="digit_table", norm="batch", traced=True, epochs=30
        ),
        "spambase_one_output": Sketch(
            data="spambase",
            widths=(64, 32),
            output="sigmoid",
            single_output=True,
            loss="bce",
            epochs=10,
        ),
        "breast_cancer_one_logit": Sketch(
            data="breast_cancer",
            single_output=True,
            loss="bce_with_logits",
            epochs=25,
            traced=True,
        ),
        "magic_softmax_nll": Sketch(
            data="magic", output="softmax", loss="nll", epochs=25
        ),
        "segment_log_softmax": Sketch(
            data="segment", output="log_softmax", loss="nll", epochs=50, lr=5e-3
        ),
        "satimage_wide": Sketch(data="satimage", widths=(512, 512), epochs=15, lr=1e-3),
        "breast_cancer_wide": Sketch(
            data="breast_cancer", widths=(512, 256), epochs=20, lr=1e-3
        ),
        "twonorm_wide": Sketch(data="twonorm", widths=(256,), epochs=6, lr=1e-3),
        "iris_wide": Sketch(data="iris", widths=(256,), epochs=60, lr=2e-3),
        "wine_linear": Sketch(data="wine", widths=(), epochs=80, lr=1e-2),
        "twonorm_linear": Sketch(data="twonorm", widths=(), epochs=20, lr=5e-3),
        "breast_cancer_linear": Sketch(
            data="breast_cancer", widths=(), epochs=40, lr=5e-3, traced=True
        ),
        "digit_table_tanh": Sketch(data="digit_table", activation="tanh", epochs=30),
        "penbased_gelu": Sketch(
            data="penbased", activation="gelu", epochs=40, lr=5e-3, traced=True
        ),
        "texture_sigmoid": Sketch(
            data="texture", activation="sigmoid", epochs=60, lr=1e-2
        ),
        "letter_no_recipe": Sketch(
            data="letter",
            rows=4000,
            widths=(128, 128),
            epochs=30,
            withheld=("optimizer", "loss", "epochs", "batch_size", "sampler"),
        ),
        "segment_half_recipe": Sketch(
            data="segment", epochs=50, lr=5e-3, withheld=("epochs", "batch_size")
        ),
        "wine_standardize": Sketch(
            data="wine", scale="none", normalization="standardize", epochs=40
        ),
        "vehicle_standardize": Sketch(
            data="vehicle",
            scale="none",
            normalization="standardize",
            epochs=60,
            lr=5e-3,
        ),
        "page_blocks_balanced": Sketch(
            data="page_blocks", sampler="balanced", epochs=30, widths=(64, 64)
        ),
        "yeast_balanced": Sketch(
            data="yeast", sampler="balanced", epochs=10, widths=(32,)
        ),
        "twonorm_unequal": Sketch(
            data="twonorm",
            spoils=(("imbalance", 4.0),),
            widths=(64,),
            epochs=10,
            lr=2e-3,
        ),
        "digit_table_unequal": Sketch(
            data="digit_table", spoils=(("imbalance", 3.0),), epochs=30
        ),
        "satimage_label_smoothing": Sketch(
            data="satimage", label_smoothing=0.05, epochs=30
        ),
        "penbased_few_wrong_labels": Sketch(
            data="penbased", spoils=(("label_noise", 0.01),), epochs=25, lr=5e-3
        ),
        "letter_large_batch": Sketch(
            data="letter", rows=4000, widths=(128, 128), batch=128, lr=1e-2, epochs=40
        ),
    }
    return {**{f"{name}_plain": sketch for name, sketch in plain.items()}, **other}


def _pictures_and_sequences() -> dict[str, Sketch]:
    conv = Sketch(data="digits", family="conv", widths=(16, 32, 64), epochs=12)
    fashion = replace(conv, data="fashion", epochs=14, rows=1500)
    return {
        "digits_conv": conv,
        "digits_conv_sgd": replace(conv, optimizer="sgd", lr=0.03, momentum=0.9),
        "digits_conv_norm": replace(conv, norm="batch", traced=True),
        "digits_conv_dropout": replace(conv, dropout=0.3, epochs=20),
        "digits_conv_augmentable": replace(conv, widths=(32, 64, 128), epochs=15),
        "digits_dense": Sketch(data="digits", widths=(128,), epochs=20),
        "digits_adadelta": replace(conv, optimizer="adadelta", lr=1.0),
        "fashion_conv": fashion,
        "fashion_conv_norm": replace(fashion, norm="batch"),
        "fashion_conv_traced": replace(fashion, traced=True, dropout=0.2, epochs=12),
        "fashion_dense": Sketch(
            data="fashion", rows=1500, widths=(128,), epochs=12, lr=1e-3
        ),
        "digit_rows_gru": Sketch(
            data="digit_rows", family="gru", widths=(48,), epochs=20, lr=5e-3
        ),
        "digit_rows_lstm": Sketch(
            data="digit_rows", family="lstm", widths=(48,), epochs=30, lr=5e-3
        ),
        "motifs_conv": Sketch(
            data="motifs(1200)", family="series_conv", widths=(32,), epochs=15
        ),
        "motifs_conv_traced": Sketch(
            data="motifs(1200)",
            family="series_conv",
            widths=(64,),
            epochs=12,
            traced=True,
        ),
        "digit_tokens": Sketch(
            data="digit_tokens", family="tokens", widths=(8, 64), epochs=15
        ),
        "splice_tokens": Sketch(
            data="splice", family="tokens", widths=(4, 32), epochs=5, rows=1500
        ),
        "splice_tokens_linear": Sketch(
            data="splice", family="tokens", widths=(4,), epochs=10, rows=1500
        ),
    }


def _generated() -> dict[str, Sketch]:
    return {
        "mc_two_classes": Sketch(data="mc(1500,12)", rows=1500, epochs=20),
        "mc_five_classes": Sketch(
            data="mc(2000,10,5)", rows=2000, widths=(96, 96), epochs=25
        ),
        "blobs_overlapping": Sketch(data="blobs(1000,1)", widths=(32,), epochs=20),
        "circles_noisy": Sketch(data="circles(1000,1)", widths=(32,), epochs=40),
        "words_many_classes": Sketch(
            data="bag_of_words(2000)",
            rows=2000,
            scale="none",
            widths=(128,),
            epochs=6,
            sampler="balanced",
        ),
    }


def control_cases() -> list[Case]:
    """List the healthy programs; the open suite has more."""
    sketches = {**_tables(), **_pictures_and_sequences(), **_generated()}
    return [
        Case(
            name=f"controls/{name}",
            suite="controls",
            half=half_of_data(sketch.data),
            sketch=sketch,
        )
        for name, sketch in sketches.items()
    ]
