"""Train a promoter predictor on the example's sequences and predict others with it.

python examples/promoters.py
"""

from pathlib import Path

import fastgenome as fg
from fastgenome.training.labelled import read_labelled
from fastgenome.training.metrics import evaluate

HERE = Path(__file__).parent
FEATURES = ("zcurve", "gc", "kmer")


def main() -> None:
    test = read_labelled(HERE / "test.csv")
    print("simulated promoters: 400 sequences to train on, 200 to test on")
    for model, features in ((None, FEATURES), ("tiny", ()), ("tiny", FEATURES)):
        with fg.track_emissions() as footprint:
            predictor = fg.finetune(HERE / "train.csv", model=model, features=features)
            outputs = predictor.outputs(test.sequences)
        figures = evaluate(predictor.task, predictor.task.encode(test.labels), outputs)
        name = " + ".join(filter(None, (model, ", ".join(features))))
        print(
            f"{name:>24}: MCC {figures['mcc']:.3f}  AUC {figures['auc']:.3f}  "
            f"{footprint.seconds:4.1f} s  {footprint.co2e_g * 1000:.1f} mg CO2e"
        )
    print("\nfirst predictions of the last one")
    classes = predictor.decide(outputs)
    for number in range(6):
        probability, truth = outputs[number, 1], test.labels[number][0]
        print(f"  test_{number}: promoter {probability:6.1%}  predicted {classes[number]}  true {truth}")


if __name__ == "__main__":
    main()
