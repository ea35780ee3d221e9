"""Which prompts are multiple choice, true or false, or proofs, and which only read like them."""

import time

import pytest

from steps.question_form import question_form

LEFT_OUT = {
    "multiple choice": [
        "What is 3 + 4? (A) 6 (B) 7 (C) 8",
        "What is 3 + 4?\nA. 6\nB. 7",
        "What is 3 + 4?\n a) 6\n b) 7",
        "What is 2+2? A) 3 B) 4 C) 5 D) 6",
        "2+2=? (1) 3 (2) 4 (3) 5",
        "What is 2 + 2?\nA: 3\nB: 4",
        "A: 3\nB: 4",
        "Which of the following is prime?",
        "Which one of the following is prime?",
        "Which two of these numbers are prime: 3, 4, 5?",
        "Choose the correct value of x.",
        "Select the best answer.",
        "Which is larger? (A) 2^5 (B) 5^2",
        "The value of 3! is\n(a) 3\n(b) 6\n(c) 9",
        "What is $x$? $\\textbf{(A)}\\ 5\\qquad\\textbf{(B)}\\ 6\\qquad\\textbf{(C)}\\ 7$",
        "How many? A) 1, B) 2, C) 3, D) 4",
        "What is 7 * 8?\n1) 54\n2) 56\n3) 63",
        "What is 7 * 8?\n1. 54\n2. 56\n3. 63\n4. 72",
        "What is half of 10? (i) 2 (ii) 5 (iii) 8",
        "If x + 1 = 3, then x is (a) 1 (b) 2 (c) 3.",
        "What is 1 + 1?\n- A) 1\n- B) 2",
        "What is the area?\n\n**A.** 12\n\n**B.** 15",
        "What is 1 + 1? Options:\nA) 1\nB) 2\nC) 3\nAnswer with the letter of the correct option.",
        "What is 9 - 4? (A) 3 (B) 4 (C) 5 (D) 6 (E) none of these",
        "Pick one from the following: 3, 4, 5. It should be even.",
        "Here are three numbers: 4, 6, 9. Which of these is a prime square?",
        "Solve x + 2 = 5.\nChoices: 2, 3, 4",
    ],
    "true or false": [
        "True or false: 7 mod 3 = 1.",
        "Is it true that 91 is prime?",
        "Is 91 prime? Answer yes or no.",
        "91 is prime. True or false?",
        "State whether the statement is true or false: 2 > 3.",
        "True/False: the sum of two odd numbers is even.",
        "T/F: 0 is even.",
        "Yes or no: does 3 divide 111?",
        "Does 3 divide 111? (yes/no)",
        "Determine whether the claim is true.",
        'Is 7 a factor of 91? Respond with "yes" or "no".',
        "Consider 2 + 2 = 5. Is this statement true?",
        "Is the equation 3 * 4 = 12 correct?",
        "Is it correct that every square is a rectangle?",
        "Decide if the following is true or false. Every prime is odd.",
        "Please answer with true or false. Is 0.5 rational?",
        "Right or wrong: 3^2 = 6.",
        "Is it the case that 12 divides 144?",
    ],
    "proof": [
        "Prove that 3 * 4 = 4 * 3.",
        "Prove or disprove: every even number is a sum of two primes.",
        "Let n be odd. Show that n^2 - 1 is divisible by 8.",
        "Let n be odd, and show that n^2 is odd.",
        "Give a proof of Fermat's little theorem.",
        "Prove: the square root of 2 is irrational.",
        "Prove the identity sin^2 x + cos^2 x = 1.",
        "Prove $a^2 + b^2 \\ge 2ab$.",
        "Use induction to prove that 1 + 2 + ... + n = n(n + 1)/2.",
        "Your task is to show that there are infinitely many primes.",
        "Show by induction that 2^n > n.",
        "Show, without a calculator, that 2^10 > 10^3.",
        "How would you prove that the sum is even?",
        "Can you prove the theorem of Pythagoras?",
        "Write a short proof that 0.999... = 1.",
        "(a) Prove that f is continuous.",
        "1. Show that x = 2 is a solution.",
        "Demonstrate that the angles of a triangle add up to 180 degrees.",
        "Let x > 0. Verify that x + 1/x >= 2.",
        "Assume that n is odd. Then prove that n^2 is odd.",
        "Prove Bayes' theorem.",
        "Prove by contradiction that log 2 is irrational.",
        "Disprove the claim that all primes are odd.",
        "Provide a rigorous proof for your answer.",
    ],
}

RETAINED = [
    "Start with 7. Add 5. What is the result?",
    "Find the smallest positive x with x mod 3 = 1 and x mod 5 = 4.",
    "Write a Python program that reads an integer x and prints f(x). Examples: f(2) = 7, f(3) = 9, f(5) = 13.",
    "If f(a) = 7 and f(b) = 9, what is f(a) + f(b)?",
    "In how many ways can we choose one red ball and two blue ones?",
    "Jill watched a show that was 30 minutes long. How long were two of them?",
    "Records show that the home team won three matches. How many did the other team win?",
    "Fireworks show the year. How many are lit?",
    "Matt watches the show The Office. How many weeks does it take?",
    "How much waterproof paint is needed?",
    "A cinema wants to show that film 4 times a day. How many times in a week?",
    "Bread dough must prove for 90 minutes. It is made at 9:15. When can it be baked?",
    "A test has 10 true or false questions worth 5 points each. How many points are there?",
    "Points (A) and (B) lie 4 cm apart. How far is the middle from (A)?",
    "A pizza comes with any of the following toppings: ham, corn, olives. How many pizzas are there?",
    # What may be chosen in a story.
    "Each guest takes one of the following: tea, coffee, water. How many orders of 3 guests are there?",
    "Points (A), (B) and (C) lie on a line, 3 cm apart. How long is the line?",
    "Do the following: (1) add 3 to 5, (2) multiply by 4, (3) subtract 6. What is the result?",
    "Three runners: (A) runs 3 km, (B) runs 4 km, (C) runs 5 km. How far do they run in all?",
    "A: 3 apples\nB: 4 apples\nHow many apples are there?",
    "Anna has two boxes.\n1. The first has 3 pens.\n2. The second has 4 pens.\nHow many pens has she?",
    "1. Ann has 3 pens.\n2. Ben has 4 pens.\n3. Count all pens.",
    "A quiz has 8 multiple-choice questions with 4 options each. In how many ways can it be answered?",
    "Let f(a) = 2a, f(b) = 3b, f(c) = 4c. What is f(1)?",
    "Grades A) and B) are given to 12 and 15 pupils. How many pupils are there?",
    "She may choose the right or the left road, 4 times. How many ways are there?",
    # What is true or false in a story.
    "A 20-question true/false test gives 1 point for each. What is the most?",
    "Each of 5 questions is answered with yes or no. How many ways are there to answer all?",
    "In how many ways can a true or false quiz of 6 questions be answered?",
    "Ali got 7 of the 10 true or false items right and 5 of the others. How many were right?",
    "Of 40 voters 25 said yes and the others no. How many said no?",
    "A survey had 6 yes or no questions and 4 others. How many questions were there?",
    # What is shown and proved in a story.
    "A channel decided to show that episode twice a day. How often in 5 days?",
    "Ben needs to show that movie to 3 classes of 20. How many children see it?",
    "The scales show that the parcel weighs 3 kg. How much do 4 of them weigh?",
    "A baker leaves the dough to prove for 2 hours and bakes it for 45 minutes. How long does it take in all?",
    "Prove the dough for 40 minutes, then bake it for 25. How many minutes is that?",
    "Rum is 80 proof, and the proof of a drink is twice its alcohol in percent. How much alcohol does 2 l hold?",
    "Tom wants to prove that he can run 5 km in 20 minutes. What speed in km/h is that?",
    "A fireproof door costs 300. How much do 4 cost?",
    "To return it she needs proof of purchase and 5 dollars. She has 12 dollars. How many are left?",
    "The second plan may prove cheaper: 3 dollars a day for 12 days. How much is it?",
    "Show your work. What is 3 + 4?",
    "A guide shows that way to 12 people an hour. How many in 3 hours?",
]


@pytest.mark.parametrize(("form", "text"), [(form, text) for form, texts in LEFT_OUT.items() for text in texts])
def test_forms_that_cannot_be_evaluated_are_recognised(form: str, text: str) -> None:
    assert question_form(text) == form


@pytest.mark.parametrize("text", RETAINED)
def test_questions_that_only_read_like_them_stay(text: str) -> None:
    assert question_form(text) is None


@pytest.mark.parametrize("part", ["\n", " ", "(A) ", "1. a\n", "true or false ", ". show a, ", "to prove ", "a "])
def test_a_long_text_is_read_in_no_time(part: str) -> None:
    began = time.process_time()
    question_form(part * (40_000 // len(part)))
    assert time.process_time() - began < 2
