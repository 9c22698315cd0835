function names = score_3dhp_names()
% Joints, joint groups and activities of MPI-INF-3DHP. Joints count from 1 here.
    names.joints = {'head_top', 'neck', 'RShoulder', 'RElbow', 'RWrist', 'LShoulder', 'LElbow', 'LWrist', ...
                    'RHip', 'RKnee', 'RAnkle', 'LHip', 'LKnee', 'LAnkle', 'pelvis', 'spine', 'head'};
    names.root = 15;
    names.groups = {'Head', 'Neck', 'Shoulder', 'Elbow', 'Wrist', 'Hip', 'Knee', 'Ankle', 'Total'};
    names.members = {1, 2, [3 6], [4 7], [5 8], [9 12], [10 13], [11 14], 1:14};
    names.activities = {'Standing/Walking', 'Exercising', 'Sitting', 'Reaching/Crouching', 'On The Floor', ...
                        'Sports', 'Miscellaneous'};
end
